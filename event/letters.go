package event

import (
	"fmt"

	"deckle/schema/level"
)

// Letters say what a dead letter shows of the record that it stands for. The zero value is what the levels before
// level.Guarded do: the whole value, and details that quote from it.
type Letters struct {
	// Values says what becomes of the record's value. The empty text means KeepValues.
	Values LetterValues `json:"values,omitempty"`
	// Details says what a detail shows of a value. The empty text means QuoteDetails.
	Details LetterDetails `json:"details,omitempty"`
}

// LetterValues says what a dead letter carries of its record's value.
type LetterValues string

const (
	// KeepValues carries it as it came.
	KeepValues LetterValues = "keep"
	// MaskValues carries its names and its structure, and in the place of each value its type and length.
	MaskValues LetterValues = "masked"
	// NoValues carries nothing of it.
	NoValues LetterValues = "none"
)

// LetterDetails says what the detail of a dead letter shows of a value.
type LetterDetails string

const (
	// TypeDetails shows its type and length.
	TypeDetails LetterDetails = "types"
	// QuoteDetails shows its beginning.
	QuoteDetails LetterDetails = "values"
)

func (l *Letters) check() error {
	switch l.Values {
	case "", KeepValues, MaskValues, NoValues:
	default:
		return fmt.Errorf("dead_letters.values: %q is none of keep, masked and none", l.Values)
	}
	switch l.Details {
	case "", TypeDetails, QuoteDetails:
	default:
		return fmt.Errorf("dead_letters.details: %q is none of types and values", l.Details)
	}
	return nil
}

// Level returns the level that a shard must have for the rules: a binary of a lower one would pass over a part of them.
func (r *Rules) Level() level.Level {
	if r.Letters != (Letters{}) || r.guards() || r.PrivacyKey != (KeyID{}) {
		return level.Guarded
	}
	return level.Real
}
