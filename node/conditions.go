package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"deckle/node/condition"
	"deckle/node/shard"
	"deckle/node/status"
	"deckle/raftstore"
	"deckle/state"
)

// subjectNode is what a condition concerns that concerns this node as a whole.
const subjectNode = "node"

// subjectCluster is what a condition concerns that concerns all shards.
const subjectCluster = "cluster"

// look brings the conditions of the node itself up to date: what it lacks to run, and shards without a leader. Status
// does it, too, so that an answer is never older than its question.
func (n *Node) look(rs *raftstore.Status) {
	n.looking.Lock()
	defer n.looking.Unlock()
	n.files.look()
	shards := n.shardList()
	var lacks []string
	for _, r := range rs.Reasons {
		if shards == nil || !strings.HasPrefix(r, "shard ") { // which are judged below
			lacks = append(lacks, r)
		}
	}
	if shards == nil && len(lacks) == 0 {
		lacks = append(lacks, "the groups do not run yet")
	}
	select {
	case <-n.done:
		if n.fatal != nil {
			lacks = append(lacks, "fatal: "+n.fatal.Error())
		} else {
			lacks = append(lacks, "closed")
		}
	default:
	}
	n.list.Keep(condition.NodeNotRunning, subjectNode, strings.Join(lacks, "; "))
	n.list.Keep(condition.NodeDrained, subjectNode, drainedText(rs))
	for i := range rs.Groups {
		g := &rs.Groups[i]
		subject := fmt.Sprintf("shard %d", g.Shard)
		n.list.Keep(condition.ShardHeld, subject, g.HeldReason)
		n.list.Keep(condition.SnapshotNotSent, subject, strings.Join(g.NotSent, "; "))
		n.list.Keep(condition.TermRefused, subject, g.TermRefused)
	}
	n.lookAtPeers(rs.Refused)
	n.list.Keep(condition.ConnectionsRefused, "http",
		n.http.refusals.judge(n.http.metrics.ConnectionsRefused(), n.deps.Now()))
	n.list.Keep(condition.AuditFailing, subjectNode, n.http.auditFailing())
	if s := n.sharing.Load(); s != nil {
		n.list.Keep(condition.CommitsApart, subjectNode, s.commitsApart())
	}
	n.list.Keep(condition.OIDCFailing, subjectNode, n.http.oidcFailing())
	for _, s := range shards {
		without := ""
		if s.Leader() == "" {
			without = "it has no known leader"
		}
		n.list.Keep(condition.ShardWithoutLeader, fmt.Sprintf("shard %d", s.ID()), without)
		n.lookAtRules(s, rs)
	}
	n.lookAtLists(shards, rs)
}

// listsPatience is how long the shards' lists of suppressed readers may differ before somebody should know: a change
// comes to one after the other, and a replica may lag.
const listsPatience = time.Minute

// lookAtLists shows whether every shard has shard 0's list of suppressed readers, by the replicas of this node. One
// that is held knows a former list at most, and counts for nothing.
func (n *Node) lookAtLists(shards []*shard.Shard, rs *raftstore.Status) {
	held := map[uint32]bool{}
	for i := range rs.Groups {
		held[rs.Groups[i].Shard] = rs.Groups[i].HeldReason != ""
	}
	var lists []state.SuppressInfo
	for _, s := range shards {
		if held[s.ID()] {
			lists = append(lists, state.SuppressInfo{})
			continue
		}
		lists = append(lists, s.Store().Peek().Suppress)
	}
	text := ""
	if len(shards) > 0 && !held[0] {
		text = otherLists(lists, held)
	}
	now := n.deps.Now()
	switch {
	case text == "":
		n.listsDiffer = time.Time{}
	case n.listsDiffer.IsZero():
		n.listsDiffer = now
	}
	if text != "" && now.Sub(n.listsDiffer) < listsPatience {
		return
	}
	n.list.Keep(condition.SuppressionDiffers, subjectCluster, text)
}

// otherLists says which shards have another list than shard 0, "" if none has. It shows nothing of the lists but how
// many readers they have.
func otherLists(lists []state.SuppressInfo, passed map[uint32]bool) string {
	var other []string
	for i := range lists {
		if !passed[uint32(i)] && !sameList(&lists[0], &lists[i]) {
			other = append(other, fmt.Sprintf("shard %d has %d", i, lists[i].Count))
		}
	}
	if other == nil {
		return ""
	}
	return fmt.Sprintf("the lists of suppressed readers are not the same: shard 0 has %d readers, %s", lists[0].Count,
		strings.Join(other, ", "))
}

// lookAtRules shows whether the rules of this node's configuration are those of a shard. A replica that is held knows
// former rules at most, and says nothing.
func (n *Node) lookAtRules(s *shard.Shard, rs *raftstore.Status) {
	view := s.Store().Peek()
	why, later := shard.OtherRules(&n.cfg.Rules, n.hmac.First(), &view.Rules, view.Level)
	for i := range rs.Groups {
		if g := &rs.Groups[i]; g.Shard == s.ID() && g.HeldReason != "" {
			why, later = "", false
		}
	}
	n.list.Keep(condition.RulesDiffer, fmt.Sprintf("shard %d", s.ID()), n.rules.judge(s.ID(), why, later, n.deps.Now()))
}

// rulesPatience is how long newer rules in a node's configuration may wait for a leader that has them before somebody
// should know: the nodes are restarted one after the other.
const rulesPatience = time.Minute

// waitingRules says since when the rules of this node's configuration have waited to become those of a shard.
type waitingRules map[uint32]time.Time

// judge returns why the rules of a shard differ once somebody should know, "" before.
func (w waitingRules) judge(shard uint32, why string, later bool, now time.Time) string {
	if !later {
		delete(w, shard)
		return why
	}
	since, waits := w[shard]
	if !waits {
		since = now
		w[shard] = now
	}
	if now.Sub(since) < rulesPatience {
		return ""
	}
	return why
}

// lookAtPeers keeps one condition for each node, or address, of which something was refused.
func (n *Node) lookAtPeers(refused []raftstore.Refusal) {
	from := map[string]bool{}
	for _, r := range refused {
		subject := cmp.Or(r.From, subjectNode)
		from[subject] = true
		n.list.Set(condition.PeerRefused, subject, 0, r.Text, "")
	}
	for subject := range n.refused {
		if !from[subject] {
			n.list.Clear(condition.PeerRefused, subject)
		}
	}
	n.refused = from
}

// lookEvery is how often a node looks at itself when nobody asks for its status.
const lookEvery = time.Second

// watchConditions looks until ctx ends.
func (n *Node) watchConditions(ctx context.Context) {
	for {
		rs := n.raft.Status()
		n.look(&rs)
		n.list.Ripen()
		n.deps.Notify(alive(n.list.Snapshot(), n.deps.Now(), n.cfg.Flush.Interval))
		if !wait(ctx, lookEvery) {
			return
		}
	}
}

// unready returns for which of its conditions a node is not ready, and which others are degraded or worse. interval is
// the flush interval.
func unready(list []condition.Condition, now time.Time, interval time.Duration) (reasons, troubles []string) {
	for i := range list {
		c := &list[i]
		effect := condition.Of(c.ID).Unready
		switch {
		case effect == condition.AtOnce,
			effect == condition.AfterPatience && now.Sub(c.Since) > condition.PatienceIntervals*interval:
			reasons = append(reasons, c.String())
		case c.Severity > condition.Notice:
			troubles = append(troubles, c.String())
		}
	}
	return reasons, troubles
}

// statusLength bounds what a service manager shows in one line.
const statusLength = 300

// alive tells a service manager that the node looks at its conditions, and the gist of them.
func alive(list []condition.Condition, now time.Time, interval time.Duration) string {
	reasons, troubles := unready(list, now, interval)
	text := "ready"
	switch {
	case len(reasons) > 0:
		text = "not ready: " + reasons[0]
	case len(troubles) > 0:
		text = "ready, but " + troubles[0]
	}
	if more := len(reasons) + len(troubles) - 1; more > 0 {
		text = fmt.Sprintf("%d more; %s", more, text)
	}
	line := []rune(text)
	for i, r := range line {
		if r < ' ' {
			line[i] = ' '
		}
	}
	return "WATCHDOG=1\nSTATUS=" + string(line[:min(len(line), statusLength)])
}

// tellFlushes tells once per minute what has been flushed, also if it is nothing: silence would mean both that there
// was nothing to do and that nothing works.
func (n *Node) tellFlushes(ctx context.Context, written *shard.Tally) {
	for wait(ctx, time.Minute) {
		n.deps.Logger.Info("flushed in the last minute", flushed(written.Take(), n.Status().Shards)...)
	}
}

// flushed returns the arguments of the line: for each sink of the shards that this node leads, or that it has written
// to, what was written.
func flushed(taken [state.NumSinks]shard.Written, shards []status.Shard) (args []any) {
	for id, w := range taken {
		id := state.SinkID(id)
		leads, behind := 0, uint64(0)
		for i := range shards {
			s := &shards[i]
			for _, has := range s.State.Config.Sinks {
				if has == id && s.IsLeader {
					leads++
					behind = max(behind, s.State.LastClosed-min(s.State.Sinks[id].Acked, s.State.LastClosed))
				}
			}
		}
		if leads == 0 && w.Flushes == 0 {
			continue
		}
		args = append(args, slog.Group(id.String(), "flushes", w.Flushes, "epochs", w.Epochs, "rows", w.Rows, "bytes",
			w.Bytes, "seconds", w.Took.Seconds(), "slowest_seconds", w.Slowest.Seconds(), "epochs_behind", behind))
	}
	return args
}
