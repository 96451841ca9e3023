package history

import (
	"fmt"
	"sync"
	"time"
)

// Violation is a state that no reader may ever see.
type Violation struct {
	At    string `json:"at"` // since the beginning
	Table string `json:"table"`
	What  string `json:"what"`
}

// Report takes a violation: the table in which it was seen, and what was seen there.
type Report func(table, format string, args ...any)

// Violations counts violations and keeps the first hundred. It is safe for concurrent use.
type Violations struct {
	began time.Time
	mu    sync.Mutex
	count int
	first []Violation
}

const keptViolations = 100

// NewViolations returns an empty collection, whose time begins now.
func NewViolations() *Violations { return &Violations{began: time.Now()} }

// Add is a Report.
func (v *Violations) Add(table, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.count++; len(v.first) < keptViolations {
		v.first = append(v.first, Violation{time.Since(v.began).Round(time.Millisecond).String(), table,
			fmt.Sprintf(format, args...)})
	}
}

// List returns how many there are, and the first of them.
func (v *Violations) List() (count int, first []Violation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count, append([]Violation{}, v.first...)
}
