package status

import "errors"

// Command is what an operator asks for a partition that is stopped or failing.
type Command struct {
	Partition int32 `json:"partition"`
	// Resume asks to try it again from its next offset on. Otherwise the offsets [From, To) are given up.
	Resume bool `json:"resume,omitempty"`
	// From must be the next offset, so that nobody gives up more than was shown to them.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Reason is the operator's, By the node that was asked; both stand in the gap.
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
}

// Outcome is what has come of a Command.
type Outcome struct {
	Next    int64 `json:"next_offset"`
	Skipped int64 `json:"skipped_offsets"`
}

// ErrRefused is wrapped by the error of a Command that was not carried out: nothing has changed. The text says why.
// After any other error it is not known whether it was carried out.
var ErrRefused = errors.New("refused")
