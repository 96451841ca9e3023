package status

import (
	"errors"
	"fmt"
)

// Command is what an operator asks for a partition that is stopped or failing.
type Command struct {
	Partition int32 `json:"partition"`
	// Resume asks to try it again from its next offset on. Otherwise the offsets [From, To) are given up.
	Resume bool `json:"resume,omitempty"`
	// Sink is "" or "events". With "events", [From, To) are offsets that have been read, and only the table of raw
	// events goes without them.
	Sink string `json:"sink,omitempty"`
	// From must be the next offset, so that nobody gives up more than was shown to them. With Sink it is any.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Reason is the operator's, By the node that was asked; both stand in the gap.
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
	// Asker is who has asked it, for the audit log of the node that carries it out.
	Asker Asker `json:"asker,omitzero"`
}

// Asker is who has asked for a command. A node of an earlier version says nothing of it.
type Asker struct {
	Principal string `json:"principal"` // access.Principal.Who
	Name      string `json:"name,omitempty"`
	Role      string `json:"role"`
	Request   string `json:"request"` // 16 hexadecimal digits that name the request in the logs of both nodes
}

// Outcome is what has come of a Command.
type Outcome struct {
	// Next is the offset from which the partition goes on, or its raw events.
	Next int64 `json:"next_offset"`
	// Skipped is how many offsets have been given up by the command; 0 if they had been before.
	Skipped int64 `json:"skipped_offsets"`
}

// ErrRefused is wrapped by the error of a Command that was not carried out: nothing has changed. The text says why.
// After any other error it is not known whether it was carried out.
var ErrRefused = errors.New("refused")

// ErrNoLeader is the ErrRefused of a command for a shard that has no known leader: ask again.
var ErrNoLeader = fmt.Errorf("%w", ErrRefused)
