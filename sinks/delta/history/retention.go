package history

import (
	"errors"
	"fmt"
	"time"

	"deckle/sinks/delta/deltalog"
)

const (
	// PropertyRetention is the table's property that says how long the objects of removed files stay.
	PropertyRetention = "delta.deletedFileRetentionDuration"
	// DefaultRetention is its value where it is not set, by the protocol.
	DefaultRetention = 7 * 24 * time.Hour
)

// DeletedFileRetention is how long a table wants the objects of removed files to stay. It is an error if the property
// is set to what cannot be understood.
func DeletedFileRetention(m *deltalog.Metadata) (time.Duration, error) {
	text, ok := m.Configuration[PropertyRetention]
	if !ok {
		return DefaultRetention, nil
	}
	d, err := deltalog.ParseInterval(text)
	if err == nil && d == deltalog.ForEver {
		err = errors.New("an interval out of range")
	}
	if err != nil {
		return 0, fmt.Errorf("history: %s is %q: %w", PropertyRetention, text, err)
	}
	return d, nil
}
