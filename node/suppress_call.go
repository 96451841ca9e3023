package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"deckle/event"
	"deckle/node/shard"
	"deckle/node/status"
	"deckle/node/web"
	"deckle/state"
)

// What a node asks of the leader of a shard.
const (
	listInfo   = "info"   // the salt, and what is known of the list
	listChange = "change" // add or remove listings, as the verb says, or as Remove does for a repair
	listLook   = "look"   // since when are listings there
)

// listCall is what a node asks of the leader of a shard about its list. It has hashes, and no id. Between nodes it is
// the second element of an array: an earlier version, which takes what it is asked for a status.Command whatever
// fields it has, cannot take that for one that skips offsets of partition 0.
type listCall struct {
	Op       string
	Verb     status.ListOp
	Shard    uint32
	Remove   bool `json:",omitempty"` // of a repair: remove the listings instead of adding them
	By       string
	Asker    status.Asker
	Salt     event.Salt
	Listings packedListings `json:",omitempty"`
}

// listEnvelope is the first element.
const listEnvelope = "suppressions"

func (c *listCall) encode() (json.RawMessage, error) { return json.Marshal([]any{listEnvelope, c}) }

// listCallOf returns what stands in an array of two elements; ours is false for anything else.
func listCallOf(what json.RawMessage) (c *listCall, ours bool, err error) {
	if b := bytes.TrimLeft(what, " \t\r\n"); len(b) == 0 || b[0] != '[' {
		return nil, false, nil
	}
	var parts []json.RawMessage
	var name string
	if err := json.Unmarshal(what, &parts); err != nil {
		return nil, true, err
	}
	c = &listCall{}
	if len(parts) != 2 || json.Unmarshal(parts[0], &name) != nil || name != listEnvelope {
		return nil, true, errors.New("a request that this version does not know")
	}
	return c, true, json.Unmarshal(parts[1], c)
}

// packedListings are listings in JSON: one text of Base64.
type packedListings []event.Listing

// MarshalJSON implements json.Marshaler.
func (p packedListings) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, event.ListingBytes*len(p))
	for i := range p {
		b = p[i].Append(b)
	}
	return json.Marshal(b)
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *packedListings) UnmarshalJSON(text []byte) error {
	var b []byte
	if err := json.Unmarshal(text, &b); err != nil {
		return err
	}
	if len(b)%event.ListingBytes != 0 || len(b) > event.ListingBytes*state.MaxListings {
		return fmt.Errorf("%d bytes of listings", len(b))
	}
	*p = nil
	for ; len(b) > 0; b = b[event.ListingBytes:] {
		x, ok := event.DecodeListing(b)
		if !ok {
			return fmt.Errorf("a listing of %s", x.Kind)
		}
		*p = append(*p, x)
	}
	return nil
}

// listReply is what a shard's leader answers.
type listReply struct {
	List    bool   // always: an earlier version does not know the field
	Refused bool   // Error is a refusal: nothing has changed
	Error   string // "" if it was done, or if Why says that the state has refused it
	Why     state.SuppressRefusal
	Changed int
	Salt    event.Salt
	Info    state.SuppressInfo
	Since   []int64 `json:",omitempty"` // of a look: Unix milliseconds, 0 for what is not listed
}

// call asks the leader of a shard, which may be this node. The error wraps status.ErrRefused if nothing has changed
// there.
func (l *lists) call(ctx context.Context, c *listCall) (*listReply, error) {
	k := l.commands
	s := l.shard(c.Shard)
	if s == nil {
		return nil, listRefused("this node knows no shard %d", c.Shard)
	}
	c.By = k.self
	leader := s.Leader()
	switch leader {
	case "":
		return nil, fmt.Errorf("%w: shard %d has no known leader; ask again", status.ErrNoLeader, c.Shard)
	case k.self:
		return l.serve(ctx, c)
	}
	what, err := c.encode()
	if err != nil {
		return nil, err
	}
	var r listReply
	silent := fmt.Sprintf("node %s, which leads shard %d, has not answered, and it is not known whether its list has "+
		"changed", leader, c.Shard)
	if err := k.passOn(ctx, leader, what, silent, &r); err != nil {
		return nil, err
	}
	if !r.List {
		return nil, listRefused("node %s, which leads shard %d, is of an earlier version, which knows no list of "+
			"suppressed readers", leader, c.Shard)
	}
	if err := refusedThere(r.Refused, r.Error); err != nil {
		return nil, err
	}
	return &r, nil
}

func (l *lists) shard(id uint32) *shard.Shard {
	for _, s := range l.commands.shards() {
		if s.ID() == id {
			return s
		}
	}
	return nil
}

// serve answers a call, if this node leads the shard.
func (l *lists) serve(ctx context.Context, c *listCall) (*listReply, error) {
	s := l.shard(c.Shard)
	if s == nil {
		return nil, listRefused("node %s does not run shard %d yet", l.commands.self, c.Shard)
	}
	r := &listReply{List: true}
	if c.Op == listChange {
		op := state.SuppressAdd
		if c.Verb == status.ListRemove || c.Remove {
			op = state.SuppressRemove
		}
		res, err := s.Suppress(ctx, state.SuppressEntry{Op: op, Salt: c.Salt, By: byOf(&c.Asker), Listings: c.Listings})
		if err != nil {
			return nil, err
		}
		r.Why, r.Changed, r.Salt, r.Info = res.Refused, res.Changed, res.Salt, res.List
		return r, nil
	}
	var err error
	if r.Salt, _, err = s.Salt(ctx); err != nil {
		return nil, notChanged(err)
	}
	r.Info = s.Store().Peek().Suppress
	switch c.Op {
	case listInfo:
	case listLook:
		r.Since = make([]int64, len(c.Listings))
		for i := range c.Listings {
			x, ok, err := s.Store().Listed(c.Listings[i].Key())
			if err != nil {
				return nil, notChanged(err)
			}
			if ok && r.Salt == c.Salt {
				r.Since[i] = x.At
			}
		}
	default:
		return nil, listRefused("node %s does not know what %.100q is", l.commands.self, c.Op)
	}
	return r, nil
}

// obey answers a call that another node, from, has made, if that node may make it and the role reaches here, too.
func (l *lists) obey(ctx context.Context, from string, c *listCall) *listReply {
	r := &listReply{}
	verb := web.ListVerb(c.Verb)
	a := &asked{by: c.By, asker: &c.Asker, verb: verb, target: fmt.Sprint("shard ", c.Shard), quiet: c.Op == listInfo,
		whole: true, args: map[string]any{"ids": len(c.Listings), "hash": hashOf(c.Listings)}}
	if c.Remove {
		a.args["remove"] = true
	}
	err := l.commands.judged(from, a, func() error {
		out, err := l.serve(ctx, c)
		if err == nil {
			r = out
			err = why(r.Why, c.Shard)
		}
		return err
	})
	if r.List && r.Why != state.SuppressTaken { // the node that has asked says it in its own words
		err = nil
	}
	r.List = true
	if err != nil {
		r.Refused, r.Error = errors.Is(err, status.ErrRefused), err.Error()
	}
	return r
}

// sameList says whether two shards have the same list.
func sameList(a, b *state.SuppressInfo) bool {
	return a.SaltID == b.SaltID && a.Count == b.Count && a.Sum == b.Sum
}
