package node

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"deckle/node/access"
	"deckle/node/shard"
	"deckle/node/status"
	"deckle/node/web"
	"deckle/raftstore"
)

// commandReply is what a node answers to a command that another one has passed on.
type commandReply struct {
	Outcome status.Outcome
	Refused bool   // Error is a refusal: nothing has changed
	Error   string // "" if the command was carried out
}

// commands carries out what operators ask for partitions. A command may come to any node; the one that leads the shard
// carries it out. Both nodes look up whether the role reaches, and both have it in their audit logs, under one request.
type commands struct {
	self   string
	access *access.Access
	audit  func() *access.Audit // nil: there is none
	log    *slog.Logger
	shards func() []*shard.Shard // none before the groups run
	lists  *lists
	adding *adding
	// others take what another node passes on in an array of two elements of which this is the first.
	others map[string]func(ctx context.Context, from string, what json.RawMessage) json.RawMessage
	pass   func(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error)
}

// command carries out an operator's command, here or at the node that leads the shard of the partition. The error wraps
// status.ErrRefused if nothing has changed.
func (k *commands) command(ctx context.Context, c status.Command) (status.Outcome, error) {
	c.By = k.self
	s := k.shardOf(c.Partition)
	if s == nil {
		return status.Outcome{}, fmt.Errorf("%w: this node knows no shard that reads partition %d", status.ErrRefused,
			c.Partition)
	}
	leader := s.Leader()
	switch leader {
	case "":
		return status.Outcome{}, fmt.Errorf("%w: shard %d has no known leader; ask again", status.ErrNoLeader,
			s.ID())
	case k.self:
		return s.Do(ctx, c)
	}
	what, err := json.Marshal(c)
	if err != nil {
		return status.Outcome{}, err
	}
	var r commandReply
	silent := fmt.Sprintf("node %s has not answered, see the status", leader)
	if err := k.passOn(ctx, leader, what, silent, &r); err != nil {
		return status.Outcome{}, err
	}
	return r.Outcome, refusedThere(r.Refused, r.Error)
}

// passOn asks another node, and decodes what it answers into reply; silent is the error where it answers nothing. The
// error wraps status.ErrRefused if that node has not looked at it.
func (k *commands) passOn(ctx context.Context, node string, what json.RawMessage, silent string, reply any) error {
	answer, err := k.pass(ctx, node, what)
	if errors.Is(err, raftstore.ErrRefused) {
		return fmt.Errorf("%w: %w", status.ErrRefused, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", silent, err)
	}
	if err := json.Unmarshal(answer, reply); err != nil {
		return fmt.Errorf("answer of node %s: %w", node, err)
	}
	return nil
}

// refusedThere is the error of another node's reply, nil if what it was asked is done.
func refusedThere(refused bool, text string) error {
	switch {
	case refused:
		return &refusal{text}
	case text != "":
		return errors.New(text)
	}
	return nil
}

// refusal is the text of another node's refusal.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return status.ErrRefused }

// obey answers what another node, from, has passed on. It is not passed on again.
func (k *commands) obey(ctx context.Context, from string, what json.RawMessage) json.RawMessage {
	if name, call := envelopeOf(what); k.others[name] != nil {
		return k.others[name](ctx, from, call)
	}
	if c, ours, err := listCallOf(what); ours {
		if err != nil {
			return encoded(&listReply{List: true, Refused: true, Error: err.Error()})
		}
		return encoded(k.lists.obey(ctx, from, c))
	}
	var c status.Command
	var r commandReply
	err := json.Unmarshal(what, &c)
	if err == nil {
		verb, target, args := web.VerbOf(&c)
		err = k.judged(from, &asked{by: c.By, asker: &c.Asker, verb: verb, target: target, args: args},
			func() (err error) {
				if s := k.shardOf(c.Partition); s != nil {
					r.Outcome, err = s.Do(ctx, c)
					return err
				}
				return fmt.Errorf("%w: node %s does not run the shard of partition %d yet", status.ErrRefused, k.self,
					c.Partition)
			})
	}
	if err != nil {
		r.Refused, r.Error = errors.Is(err, status.ErrRefused), err.Error()
	}
	return encoded(&r)
}

// envelopeOf returns the two elements of an array whose first one is a text, or nothing.
func envelopeOf(what json.RawMessage) (name string, call json.RawMessage) {
	var parts []json.RawMessage
	if json.Unmarshal(what, &parts) != nil || len(parts) != 2 || json.Unmarshal(parts[0], &name) != nil {
		return "", nil
	}
	return name, parts[1]
}

func encoded(reply any) json.RawMessage {
	b, err := json.Marshal(reply)
	if err != nil { // a struct of plain fields always encodes
		return nil
	}
	return b
}

// asked is what another node asks for, as it is judged and written down.
type asked struct {
	by           string // the node that it is said to have been asked at
	asker        *status.Asker
	verb, target string
	args         map[string]any
	quiet        bool // a question that has a line only if it is denied
	whole        bool // no earlier version asks it, so it has to say who asks
}

// judged does what another node asks for, if that node may pass it on and the role reaches here, too.
func (k *commands) judged(from string, a *asked, do func() error) error {
	audit := k.audit()
	line := func(code int, result, detail string) access.Line {
		return access.Line{Request: a.asker.Request, Who: cmp.Or(a.asker.Principal, "none"), Name: a.asker.Name,
			Role: cmp.Or(a.asker.Role, access.Nobody.String()), Via: "node " + from, Verb: a.verb, Target: a.target,
			Args: a.args, Status: code, Result: result, Detail: detail}
	}
	if why := k.denied(from, a, web.Need(a.verb)); why != "" {
		k.log.Warn("a command of another node is refused", "from", from, "why", why)
		if audit != nil {
			l := line(http.StatusForbidden, "denied", why)
			if tooLong(a.asker) {
				l.Who, l.Name, l.Role, l.Request = "none", "", access.Nobody.String(), ""
			}
			audit.Refused(l)
		}
		return fmt.Errorf("%w: node %s: %s", status.ErrRefused, k.self, why)
	}
	if a.quiet {
		return do()
	}
	// As where it was asked: a line before and one after, and what is not written down is not done.
	if audit != nil {
		if err := audit.Write(line(0, "begun", ""), true); err != nil {
			k.log.Error("the audit log cannot be written", "request", a.asker.Request, "error", err)
			return fmt.Errorf("%w: the audit log of node %s cannot be written", status.ErrRefused, k.self)
		}
	}
	err := do()
	if audit != nil {
		code, result := web.Outcome(err)
		detail := ""
		if err != nil {
			detail = err.Error()
		}
		if err := audit.Write(line(code, result, detail), true); err != nil { // it is done, whatever the log has of it
			k.log.Error("the outcome of a verb is not in the audit log", "request", a.asker.Request, "error", err)
		}
	}
	return err
}

// maxAsker bounds what another node may say of who has asked, in bytes: it comes into the audit log.
const maxAsker = 4 << 10

func tooLong(a *status.Asker) bool {
	return len(a.Principal)+len(a.Name)+len(a.Role)+len(a.Request) > maxAsker
}

// denied says why a command of another node is not carried out, "" if it is. That node is believed about who has asked,
// but it speaks for itself alone, and for nobody whose role does not reach. Where nobody has to say who they are it may
// be of an earlier version, which tells nothing of who has asked.
func (k *commands) denied(from string, w *asked, need access.Role) string {
	a, required := w.asker, k.access.Required()
	role, err := access.ParseRole(a.Role) // Nobody for what is none
	switch {
	case w.by != from:
		return fmt.Sprintf("node %s passes on what node %.100q is said to have been asked", from, w.by)
	case *a == status.Asker{} && !required && !w.whole:
		return ""
	case *a == status.Asker{} && !w.whole:
		return fmt.Sprintf("node %s does not say who asks, because it is of an earlier version; ask another node", from)
	case tooLong(a):
		return fmt.Sprintf("node %s says more than %d bytes of who asks", from, maxAsker)
	case !isRequest(a.Request) || a.Principal == "":
		return fmt.Sprintf("node %s does not say who asks, or under which request", from)
	case err != nil || role < need:
		return fmt.Sprintf("the role %s is needed, and this is %.100q, as node %s says", need, a.Role, from)
	case required && a.Principal == "none":
		return fmt.Sprintf("on node %s nobody has to say who they are, here they have to; ask another node, or give "+
			"that one http.auth, too", from)
	}
	return ""
}

// isRequest says whether a text may name a request: 16 hexadecimal digits.
func isRequest(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == 8
}

// shardOf returns the shard that reads a partition, nil if none does.
func (k *commands) shardOf(partition int32) *shard.Shard {
	for _, s := range k.shards() {
		if slices.Contains(s.Store().Peek().Config.Partitions, partition) {
			return s
		}
	}
	return nil
}
