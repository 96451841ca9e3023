package share

import "time"

// The tokens of a table: how many commits it may have besides one for each turn. 86,400 / 130 and 36 are 700 a day.
const (
	mostTokens = 36
	tokenEvery = 130 * time.Second
)

// tokens are those that are left, which come back with time.
type tokens struct {
	left float64
	at   time.Time // as of when
}

func newTokens(now time.Time) *tokens { return &tokens{left: mostTokens, at: now} }

// now brings the number up to date and returns it.
func (t *tokens) now(at time.Time) float64 {
	if d := at.Sub(t.at); d > 0 {
		t.left, t.at = min(t.left+d.Seconds()/tokenEvery.Seconds(), mostTokens), at
	}
	return t.left
}

// has reports whether there is one.
func (t *tokens) has(at time.Time) bool { return t.now(at) >= 1 }

// take takes one, if there is one.
func (t *tokens) take(at time.Time) bool {
	if !t.has(at) {
		return false
	}
	t.left--
	return true
}
