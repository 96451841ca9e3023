package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
)

// Message is what one node sends another (raftstore.Store.Share): an ask or an offer.
type Message struct {
	Turn  *sinks.Turn     `json:",omitempty"` // the leader of shard 0 asks to cut
	Offer json.RawMessage `json:",omitempty"` // of the format deltalog.OfferFormat
}

// Send sends a message to another node and returns its answer, as raftstore.Store.Share does.
type Send func(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error)

const (
	// lookEvery is how often a node that waits for an answer looks who leads shard 0.
	lookEvery = 100 * time.Millisecond
	// shortPatience is how long a node waits for an answer after one that did not come in time.
	shortPatience = 1500 * time.Millisecond
)

// Client makes the offers of this node.
type Client struct {
	peers Peers
	own   *Rounds
	send  Send

	mu     sync.Mutex
	failed map[string]bool // lanes in which the last answer did not come in time
}

// NewClient returns a client that offers to own where this node is the committer, and else sends.
func NewClient(peers Peers, own *Rounds, send Send) *Client {
	return &Client{peers: peers, own: own, send: send, failed: map[string]bool{}}
}

// Offer offers something to the committer and returns its answer, or "no": if there is no committer, or another one
// than at the beginning, if the connection ends, or after patience at the latest. After "no" it is not known whether
// the offer was committed; the node commits it by itself, and the log's checks tell.
func (c *Client) Offer(ctx context.Context, o *deltalog.Offer, patience time.Duration) deltalog.Answer {
	to := c.peers.Leader(0)
	if to == "" {
		return no(errNoCommitter)
	}
	c.mu.Lock()
	if c.failed[o.Lane] {
		patience = min(patience, shortPatience)
	}
	c.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with ctx
		end, look := time.After(patience), time.NewTicker(lookEvery)
		defer look.Stop()
		for {
			select {
			case <-end:
				cancel(errPatience)
			case <-look.C:
				if c.peers.Leader(0) != to {
					cancel(errNoCommitter)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	a := c.offer(ctx, to, o)
	// gofail: var deltaOfferAnswered struct{}
	why := context.Cause(ctx)
	if why != nil && a.Outcome == deltalog.OutcomeNo {
		a.Error = why.Error()
	}
	if why == nil || errors.Is(why, errPatience) {
		c.mu.Lock()
		c.failed[o.Lane] = why != nil
		c.mu.Unlock()
	}
	return a
}

var (
	errNoCommitter = errors.New("share: no committer, or another one, is known")
	errPatience    = errors.New("share: the committer did not answer in time")
)

func (c *Client) offer(ctx context.Context, to string, o *deltalog.Offer) deltalog.Answer {
	if to == c.peers.Self() {
		return c.own.Offer(ctx, to, o)
	}
	b, err := deltalog.EncodeOffer(o)
	if err == nil {
		b, err = json.Marshal(Message{Offer: b})
	}
	if err != nil {
		return no(err)
	}
	// gofail: var deltaOfferSent struct{}
	b, err = c.send(ctx, to, b)
	if err != nil {
		return no(err)
	}
	var a deltalog.Answer
	if err := json.Unmarshal(b, &a); err != nil {
		return no(fmt.Errorf("share: answer of %s: %w", to, err))
	}
	return a
}

// Ask asks another node to cut, and returns when it has answered or ctx has ended.
func Ask(ctx context.Context, send Send, node string, t sinks.Turn) error {
	b, err := json.Marshal(Message{Turn: &t})
	if err == nil {
		_, err = send(ctx, node, b)
	}
	if err != nil {
		return fmt.Errorf("share: %s was not asked: %w", node, err)
	}
	return nil
}

// Serve answers what another node sends: an ask is handed to heard, an offer to rounds, if they are not nil. What is
// neither is answered "no".
func Serve(
	ctx context.Context, from string, what json.RawMessage, rounds *Rounds, heard func(from string, t sinks.Turn),
) json.RawMessage {
	var m Message
	a := deltalog.Answer{Outcome: deltalog.OutcomeNo, Error: "share: neither an ask nor an offer"}
	switch err := json.Unmarshal(what, &m); {
	case err != nil:
		a.Error = "share: no message"
	case m.Turn != nil:
		heard(from, *m.Turn)
		a = deltalog.Answer{Outcome: deltalog.OutcomeDone}
	case m.Offer != nil && rounds != nil:
		o, err := deltalog.DecodeOffer(m.Offer)
		if err != nil {
			a = no(err)
			break
		}
		a = rounds.Offer(ctx, from, o)
	}
	b, err := json.Marshal(a)
	if err != nil {
		return json.RawMessage(`{"Outcome":"no"}`) // not reachable: these are texts and a number
	}
	return b
}
