package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"deckle/node/config"
	"deckle/node/status"
	"deckle/node/web"
	"deckle/raftstore"
)

// mover moves the leaderships of shards between the nodes, as operators ask for it at any node. The leader of a shard
// hands it over, and has the other node keep it, which else would give it back to the shard's preferred node. A node
// drains itself. Nothing of it is on disk or replicated: it ends with the process.
type mover struct {
	commands *commands
	nodes    []string
	seen     func() look
	raft     func() *raftstore.Store // nil before there is one
}

func newMover(k *commands, nodes []config.Node, seen func() look, raft func() *raftstore.Store) *mover {
	m := &mover{commands: k, seen: seen, raft: raft}
	for _, p := range nodes {
		m.nodes = append(m.nodes, p.Name)
	}
	k.others = map[string]func(context.Context, string, json.RawMessage) json.RawMessage{moveEnvelope: m.obey}
	return m
}

// What a node asks of another one.
const (
	moveEnvelope = "cluster"

	moveHand = "hand" // of the leader of a shard: hand it to a node
	moveKeep = "keep" // of that node: keep it
	moveFree = "free" // of that node: it does not come, do not keep it
	moveRest = "rest" // lead no shard that another node can lead
	moveLead = "lead" // lead again
	moveRise = "rise" // of the leader of a shard: let its level rise
)

// moveCall is what a node asks of another one.
type moveCall struct {
	Op    string
	Shard uint32
	To    string `json:",omitempty"`
	By    string
	Asker status.Asker
}

// verb returns what a call is in the audit log.
func (c *moveCall) verb() string {
	switch c.Op {
	case moveRest:
		return web.ClusterVerb(status.ClusterDrain)
	case moveLead:
		return web.ClusterVerb(status.ClusterUndrain)
	case moveRise:
		return web.VerbFinalize
	}
	return web.ClusterVerb(status.ClusterTransfer)
}

// moveReply is the answer. Of a transfer it has nothing more.
type moveReply struct {
	Refused bool   // Error is a refusal: nothing has changed
	Error   string // "" if it was done
	Drain   *status.DrainOutcome
	Risen   *status.ShardRisen
}

// moveWithin bounds a handover, so that there is an answer before the connection between two nodes ends.
const moveWithin = 10 * time.Second

// Transfer implements web.Mover. What a single shard has not done is in the outcome, unless only one was asked for.
func (m *mover) Transfer(ctx context.Context, q *status.TransferRequest) (*status.TransferOutcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveWithin)
	defer cancel()
	if err := m.known(q.To); err != nil {
		return nil, err
	}
	var ids []uint32
	for _, s := range m.commands.shards() {
		if q.Shard == nil || s.ID() == *q.Shard {
			ids = append(ids, s.ID())
		}
	}
	switch {
	case len(ids) == 0 && len(m.commands.shards()) == 0:
		return nil, fmt.Errorf("%w: the shards of node %s do not run yet", status.ErrRefused, m.commands.self)
	case len(ids) == 0:
		return nil, fmt.Errorf("%w: there is no shard %d", status.ErrRefused, *q.Shard)
	}
	out := &status.TransferOutcome{To: q.To, Whole: true, Shards: make([]status.ShardMoved, len(ids))}
	errs := make([]error, len(ids))
	var all sync.WaitGroup
	for i, id := range ids {
		all.Go(func() {
			out.Shards[i].Shard = id
			out.Shards[i].From, errs[i] = m.transfer(ctx, id, q)
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil && q.Shard != nil {
			return nil, err
		}
		if err != nil {
			out.Shards[i].Error, out.Whole = err.Error(), false
		}
	}
	return out, nil
}

// transfer has the leader of a shard, which it returns, hand it over.
func (m *mover) transfer(ctx context.Context, shard uint32, q *status.TransferRequest) (from string, err error) {
	raft := m.raft()
	if raft == nil || raft.Group(shard) == nil {
		return "", fmt.Errorf("%w: node %s does not run shard %d yet", status.ErrRefused, m.commands.self, shard)
	}
	c := &moveCall{Op: moveHand, Shard: shard, To: q.To, Asker: q.Asker}
	switch from = raft.Group(shard).Leader(); from {
	case "":
		return "", fmt.Errorf("%w: shard %d has no known leader; ask again", status.ErrNoLeader, shard)
	case m.commands.self:
		return from, m.hand(ctx, c)
	}
	_, err = m.call(ctx, from, c)
	return from, err
}

// Drain implements web.Mover.
func (m *mover) Drain(ctx context.Context, q *status.DrainRequest) (*status.DrainOutcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveWithin)
	defer cancel()
	if err := m.known(q.Node); err != nil {
		return nil, err
	}
	c := &moveCall{Op: moveRest, Asker: q.Asker}
	if q.Off {
		c.Op = moveLead
	}
	if q.Node == m.commands.self {
		return m.rest(!q.Off)
	}
	r, err := m.call(ctx, q.Node, c)
	if err == nil && r.Drain == nil {
		err = fmt.Errorf("node %s has not said what has come of it", q.Node)
	}
	if err != nil {
		return nil, err
	}
	return r.Drain, nil
}

func (m *mover) known(node string) error {
	if !slices.Contains(m.nodes, node) {
		return fmt.Errorf("%w: there is no node %.100q, only %s", status.ErrRefused, node, strings.Join(m.nodes, ", "))
	}
	return nil
}

// call asks another node.
func (m *mover) call(ctx context.Context, node string, c *moveCall) (*moveReply, error) {
	c.By = m.commands.self
	what, err := json.Marshal([]any{moveEnvelope, c})
	if err != nil {
		return nil, err
	}
	var r moveReply
	silent := fmt.Sprintf("node %s has not answered, see the status", node)
	if err := m.commands.passOn(ctx, node, what, silent, &r); err != nil {
		return nil, err
	}
	if err := refusedThere(r.Refused, r.Error); err != nil {
		return nil, err
	}
	return &r, nil
}

// obey answers a call that another node, from, has made, if that node may make it and the role reaches here, too.
func (m *mover) obey(ctx context.Context, from string, what json.RawMessage) json.RawMessage {
	ctx, cancel := context.WithTimeout(ctx, moveWithin)
	defer cancel()
	var c moveCall
	var r moveReply
	err := json.Unmarshal(what, &c)
	if err == nil {
		target, args := fmt.Sprint("shard ", c.Shard), map[string]any{}
		if c.Op == moveRest || c.Op == moveLead {
			target = "node " + m.commands.self
		} else if c.Op != moveRise {
			args["to"] = c.To
		}
		a := &asked{by: c.By, asker: &c.Asker, verb: c.verb(), target: target, args: args, whole: true,
			quiet: c.Op == moveKeep || c.Op == moveFree}
		err = m.commands.judged(from, a, func() (err error) {
			if c.Op == moveRise {
				r.Risen, err = m.raise(ctx, c.Shard)
			} else {
				r.Drain, err = m.serve(ctx, &c)
			}
			return err
		})
	}
	if err != nil {
		r.Refused, r.Error = errors.Is(err, status.ErrRefused), err.Error()
	}
	return encoded(&r)
}

func (m *mover) serve(ctx context.Context, c *moveCall) (*status.DrainOutcome, error) {
	raft := m.raft()
	if raft == nil || raft.Group(0) == nil {
		return nil, fmt.Errorf("%w: node %s does not run its shards yet", status.ErrRefused, m.commands.self)
	}
	switch c.Op {
	case moveRest, moveLead:
		return m.rest(c.Op == moveRest)
	case moveHand:
		return nil, m.hand(ctx, c)
	case moveKeep, moveFree:
		if g := raft.Group(c.Shard); g != nil {
			g.Keep(c.Op == moveKeep)
			return nil, nil
		}
	}
	return nil, fmt.Errorf("%w: node %s does not know what %.100q of shard %d is", status.ErrRefused, m.commands.self,
		c.Op, c.Shard)
}

// hand hands a shard that this node leads to another one. To hand it to this node changes nothing but that it stays.
func (m *mover) hand(ctx context.Context, c *moveCall) error {
	g := m.raft().Group(c.Shard)
	switch {
	case g == nil:
		return fmt.Errorf("%w: there is no shard %d", status.ErrRefused, c.Shard)
	case !g.IsLeader():
		return fmt.Errorf("%w: node %s does not lead shard %d (any more); ask again", status.ErrNoLeader,
			m.commands.self, c.Shard)
	case c.To == m.commands.self:
		g.Keep(true)
		return nil
	}
	keep := &moveCall{Op: moveKeep, Shard: c.Shard, Asker: c.Asker}
	if _, err := m.call(ctx, c.To, keep); err != nil {
		return fmt.Errorf("%w: node %s cannot be told to keep shard %d, and nothing has changed: %w", status.ErrRefused,
			c.To, c.Shard, err)
	}
	err := g.Offer(ctx, c.To)
	if err == nil {
		return nil
	}
	free := &moveCall{Op: moveFree, Shard: c.Shard, Asker: c.Asker}
	fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = m.call(fctx, c.To, free) // at worst it keeps the shard when it is elected for it once
	if errors.Is(err, raftstore.ErrUnfit) {
		return fmt.Errorf("%w: %w", status.ErrRefused, err)
	}
	return fmt.Errorf("it is not known whether shard %d has changed hands, see the status: %w", c.Shard, err)
}

// rest drains this node, or ends that. It is refused where no other node could lead: then the word would mean nothing.
func (m *mover) rest(on bool) (*status.DrainOutcome, error) {
	raft := m.raft()
	if raft == nil {
		return nil, fmt.Errorf("%w: node %s is starting", status.ErrRefused, m.commands.self)
	}
	out := &status.DrainOutcome{Node: m.commands.self, Drained: on, Leads: []uint32{}, Warnings: []string{}}
	if on {
		l := m.seen()
		could, behind, away := m.others(&l)
		if could == 0 {
			return nil, fmt.Errorf("%w: no other node could lead the shards of node %s: %s", status.ErrRefused,
				m.commands.self, strings.Join(append(away, behind...), "; "))
		}
		out.Warnings = append(append(out.Warnings, away...), behind...)
		if l.canLoseOne != nil && !*l.canLoseOne {
			out.Warnings = append(out.Warnings, "do not stop it: no node may be lost now, because "+l.because)
		}
	}
	raft.Drain(on)
	st := raft.Status()
	for i := range st.Groups {
		if g := &st.Groups[i]; g.IsLeader {
			out.Leads = append(out.Leads, g.Shard)
		}
	}
	return out, nil
}

// others says how many of the other nodes could lead, which of them lack something for now, and what is with the rest.
func (m *mover) others(l *look) (could int, behind, away []string) {
	if len(m.nodes) == 1 {
		return 0, nil, []string{"it is the only one"}
	}
	if len(l.members) == 0 {
		return 0, nil, []string{"nothing is known of them yet; ask again"}
	}
	for i := range l.members {
		switch o := &l.members[i]; {
		case o.Node == m.commands.self:
		case !o.Answers:
			away = append(away, fmt.Sprintf("node %s does not answer", o.Node))
		case o.Figures != nil && o.Figures.Drained:
			away = append(away, fmt.Sprintf("node %s is drained", o.Node))
		default:
			if could++; !o.UpToDate {
				behind = append(behind, fmt.Sprintf("node %s has not caught up: it takes shards once it has", o.Node))
			}
		}
	}
	return could, behind, away
}

// drainedText says that this node is drained, "" if it is not.
func drainedText(rs *raftstore.Status) string {
	if !rs.Drained {
		return ""
	}
	var leads []string
	for i := range rs.Groups {
		if g := &rs.Groups[i]; g.IsLeader {
			leads = append(leads, fmt.Sprint(g.Shard))
		}
	}
	if leads == nil {
		return "an operator has drained it: it leads no shard"
	}
	return "an operator has drained it: it leads until another node can take them shards " + strings.Join(leads, ", ")
}
