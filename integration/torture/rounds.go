package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"deckle/integration/proxy"
	"deckle/integration/services"
	"deckle/sim"
)

// Times within a round.
const (
	badFor     = 7 * time.Second  // how long a link is bad: longer than any lease, election or first retry
	stopFor    = 5 * time.Second  // from SIGSTOP to SIGCONT
	downFor    = 3 * time.Second  // how long a service is down
	awayFor    = 25 * time.Second // how long a node stays away: until Raft's back-off has reached its greatest pause
	reachFor   = 30 * time.Second // how long to wait for a failpoint
	recoverFor = 2 * time.Minute
	readyFor   = 2 * time.Minute
)

var allShards = []uint32{0, 1, 2, 3, 4, 5}

// kill ends a node with SIGKILL and returns the time of that.
func (w *world) kill(r *result, node int) (time.Time, error) {
	err := w.Nodes[node].Kill()
	r.kills++
	return time.Now(), err
}

// startAgain starts a node and waits until it has caught up; it returns how long that took.
func (w *world) startAgain(ctx context.Context, node int) (time.Duration, error) {
	began := time.Now()
	if err := w.Nodes[node].Start(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyFor)
	defer cancel()
	err := w.catchUp(ctx, node)
	return time.Since(began), err
}

func (t *torture) recovered(ctx context.Context, killed time.Time, shards []uint32) (*recovery, error) {
	ctx, cancel := context.WithTimeout(ctx, recoverFor)
	defer cancel()
	rec, err := t.recover(ctx, killed, shards)
	return &rec, err
}

// nothing measures how long it takes until a session is visible without any fault.
func nothing(ctx context.Context, t *torture, r *result) (err error) {
	r.calm, err = t.recovered(ctx, time.Now(), allShards)
	return err
}

// killLeader kills a node, measures the recovery of all shards that it led, and starts it again.
func killLeader(ctx context.Context, t *torture, r *result) error {
	lead, err := t.awaitLeaders(ctx)
	if err != nil {
		return err
	}
	node := lead[uint32(t.pick(shards))]
	of := led(lead, node)
	r.detail = fmt.Sprintf("node-%d, leader of %v", node+1, of)
	killed, err := t.kill(r, node)
	if err != nil {
		return err
	}
	if r.recovery, err = t.recovered(ctx, killed, of); err != nil {
		return err
	}
	r.follow, err = t.startAgain(ctx, node)
	return err
}

func killFollower(ctx context.Context, t *torture, r *result) error {
	lead, err := t.awaitLeaders(ctx)
	if err != nil {
		return err
	}
	node := t.pick(nodes)
	for n := range nodes { // a node that leads nothing, if there is one
		if len(led(lead, n)) < len(led(lead, node)) {
			node = n
		}
	}
	r.detail = fmt.Sprintf("node-%d, leader of %v", node+1, led(lead, node))
	if _, err := t.kill(r, node); err != nil {
		return err
	}
	if err := sim.Pause(ctx, t.upTo(2*time.Second)); err != nil {
		return err
	}
	r.follow, err = t.startAgain(ctx, node)
	return err
}

// killLong starts a killed node again only when the others have given it up, as far as they ever do.
func killLong(ctx context.Context, t *torture, r *result) (err error) {
	node := t.pick(nodes)
	r.detail = fmt.Sprintf("node-%d, away for %s", node+1, awayFor)
	if _, err := t.kill(r, node); err != nil {
		return err
	}
	if err := sim.Pause(ctx, awayFor); err != nil {
		return err
	}
	r.follow, err = t.startAgain(ctx, node)
	return err
}

// killTwo leaves no majority for a while.
func killTwo(ctx context.Context, t *torture, r *result) error {
	spared := t.pick(nodes)
	r.detail = fmt.Sprintf("all but node-%d", spared+1)
	for n := range nodes {
		if n != spared {
			if _, err := t.kill(r, n); err != nil {
				return err
			}
		}
	}
	if err := sim.Pause(ctx, t.upTo(3*time.Second)); err != nil {
		return err
	}
	for n := range nodes {
		if n != spared {
			if err := t.Nodes[n].Start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// killAll kills all three at once, starts them, and measures how long it takes until all shards are visible again.
func killAll(ctx context.Context, t *torture, r *result) error {
	r.detail = "and start them at once"
	var group sync.WaitGroup
	errs := make([]error, nodes)
	for n := range nodes {
		group.Go(func() { errs[n] = t.Nodes[n].Kill() })
	}
	group.Wait()
	killed := time.Now()
	r.kills += nodes
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := t.Start(); err != nil {
		return err
	}
	var err error
	r.all, err = t.recovered(ctx, killed, allShards)
	return err
}

// deleteFolder deletes a node's data folder once no log begins with its first entry any more: the node must come back
// through a snapshot of each shard.
func deleteFolder(ctx context.Context, t *torture, r *result) error {
	node := t.pick(nodes)
	n := t.Nodes[node]
	r.detail = fmt.Sprintf("of node-%d", node+1)
	if err := t.awaitTruncated(ctx, node); err != nil {
		return err
	}
	if _, err := t.kill(r, node); err != nil {
		return err
	}
	if err := os.RemoveAll(n.DataDir); err != nil {
		return err
	}
	if err := sim.Pause(ctx, t.upTo(5*time.Second)); err != nil {
		return err
	}
	began := time.Now()
	if err := n.Start(); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, readyFor)
	defer cancel()
	if err := n.WaitReady(wait); err != nil {
		return err
	}
	if err := t.catchUp(wait, node); err != nil {
		return err
	}
	r.rejoin = time.Since(began)
	installed, err := t.metric(ctx, n, "deckle_raft_snapshots_installed_total")
	if err != nil {
		return err
	}
	r.detail += fmt.Sprintf(", %d snapshots installed", int(installed))
	if installed < shards {
		return fmt.Errorf("node-%d came back with %v snapshots, not one for each of %d shards",
			node+1, installed, shards)
	}
	return nil
}

// truncatedWithin is how long a cluster may take until each log is truncated for the first time: minutes more than a
// young cluster needs at the usual rate.
const truncatedWithin = 6 * time.Minute

// awaitTruncated waits until the logs of all shards begin after their first entry on every node but one: whichever of
// them leads, it has no such entry to send to a node that has nothing.
func (w *world) awaitTruncated(ctx context.Context, but int) error {
	ctx, cancel := context.WithTimeout(ctx, truncatedWithin)
	defer cancel()
	for {
		var whole []string
		for i, n := range w.Nodes {
			if i == but {
				continue
			}
			first, err := w.shardMetric(ctx, n, "deckle_raft_first_index")
			if err != nil {
				return err
			}
			for s, index := range first {
				if index <= 1 {
					whole = append(whole, fmt.Sprintf("shard %d of %s", s, n.Name))
				}
			}
		}
		if len(whole) == 0 {
			return nil
		}
		if err := sim.Pause(ctx, time.Second); err != nil {
			return fmt.Errorf("logs that still begin with their first entry: %v: %w", whole, err)
		}
	}
}

// rollingRestart ends each node in order and starts it again.
func rollingRestart(ctx context.Context, t *torture, r *result) error {
	for i, n := range t.Nodes {
		if err := n.Stop(30 * time.Second); err != nil {
			return err
		}
		if err := n.Err(); err != nil {
			return fmt.Errorf("%s ended with %w after SIGTERM:\n%s", n.Name, err, n.Tail(2000))
		}
		if _, err := t.startAgain(ctx, i); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, readyFor)
		err := n.WaitReady(wait)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// stop pauses nodes with SIGSTOP for a while.
func (w *world) stop(ctx context.Context, of ...int) error {
	for _, n := range of {
		if err := w.Nodes[n].Signal(syscall.SIGSTOP); err != nil {
			return err
		}
	}
	err := sim.Pause(ctx, stopFor)
	for _, n := range of {
		err = errors.Join(err, w.Nodes[n].Signal(syscall.SIGCONT))
	}
	return err
}

func stopLeader(ctx context.Context, t *torture, r *result) error {
	lead, err := t.awaitLeaders(ctx)
	if err != nil {
		return err
	}
	node := lead[uint32(t.pick(shards))]
	r.detail = fmt.Sprintf("node-%d, leader of %v", node+1, led(lead, node))
	return t.stop(ctx, node)
}

func stopTwo(ctx context.Context, t *torture, r *result) error {
	spared := t.pick(nodes)
	r.detail = fmt.Sprintf("all but node-%d", spared+1)
	return t.stop(ctx, (spared+1)%nodes, (spared+2)%nodes)
}

// restart kills a service and starts it again after a while.
func (w *world) restart(ctx context.Context, p *services.Process, up func(context.Context) error) error {
	if err := p.Kill(); err != nil {
		return err
	}
	if err := sim.Pause(ctx, downFor); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyFor)
	defer cancel()
	return up(ctx)
}

func restartMinIO(ctx context.Context, t *torture, _ *result) error {
	return t.restart(ctx, t.minio.Process, t.minio.Up)
}

func restartClickHouse(ctx context.Context, t *torture, _ *result) error {
	return t.restart(ctx, t.click.Process, t.click.Up)
}

func restartKafka(ctx context.Context, t *torture, _ *result) error {
	return t.restart(ctx, t.kafka.Process, t.kafka.Up)
}

// reach arms a failpoint on one node after the other, the given one first, until a node sleeps in it. Those of
// compaction are armed on all of them at once, and for longer: one node compacts, and a job of thousands of files takes
// minutes on a loaded machine.
func (w *world) reach(ctx context.Context, first int, point string, hold time.Duration) (node int, err error) {
	armed, tries, wait := 1, 2*nodes, reachFor
	if strings.HasPrefix(point, compactionPoints) {
		armed, tries, wait = nodes, 1, 12*reachFor
	}
	term := fmt.Sprintf("1*sleep(%d)", hold.Milliseconds())
	for i := range tries {
		for j := range armed {
			if err := w.arm(ctx, (first+i+j)%nodes, point, term); err != nil {
				return 0, err
			}
		}
		for until := time.Now().Add(wait); time.Now().Before(until); {
			for j := range armed {
				node = (first + i + j) % nodes
				n, err := w.hits(ctx, node, point)
				if err != nil {
					return 0, err
				}
				if n > 0 {
					return node, w.disarmBut(ctx, node, point, first+i, armed)
				}
			}
			if err := sim.Pause(ctx, 5*time.Millisecond); err != nil {
				return 0, err
			}
		}
		if err := w.disarmBut(ctx, -1, point, first+i, armed); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("failpoint %s was not reached on any node", point)
}

// disarmBut disarms a failpoint on so many nodes from the given one on, but for one.
func (w *world) disarmBut(ctx context.Context, but int, point string, from, n int) error {
	for j := range n {
		if node := (from + j) % nodes; node != but {
			if err := w.disarm(ctx, node, point); err != nil {
				return err
			}
		}
	}
	return nil
}

// killAt kills a node between two steps of a flush.
func killAt(ctx context.Context, t *torture, r *result, point string) error {
	node, err := t.reach(ctx, t.pick(nodes), point, time.Minute)
	if err != nil {
		return err
	}
	r.detail = fmt.Sprintf("node-%d", node+1)
	if _, err := t.kill(r, node); err != nil {
		return err
	}
	if t.rng.IntN(2) == 0 { // perhaps the others take over before it is back
		if err := sim.Pause(ctx, t.upTo(4*time.Second)); err != nil {
			return err
		}
	}
	r.follow, err = t.startAgain(ctx, node)
	return err
}

// stopAt lets a node sleep between two steps of a flush while it is isolated from the others, which take over its
// shards; then it takes the next step, for a shard that is no longer its own.
func stopAt(ctx context.Context, t *torture, r *result) error {
	point := t.points[t.pick(len(t.points))]
	node, err := t.reach(ctx, t.pick(nodes), point, badFor)
	if err != nil {
		return err
	}
	r.detail = fmt.Sprintf("node-%d at %s", node+1, point)
	peers := t.linksOf(func(l *link) bool {
		return l.node == node && strings.HasPrefix(l.to, "node-") || l.to == t.Nodes[node].Name
	})
	for _, l := range peers {
		l.Cut()
	}
	return sim.Pause(ctx, badFor+2*time.Second)
}

// badLink makes some of a node's links bad for a while.
func badLink(ctx context.Context, t *torture, r *result, to string, disturb func(*link)) error {
	node := t.pick(nodes)
	peer := (node + 1 + t.pick(nodes-1)) % nodes
	r.detail = fmt.Sprintf("node-%d", node+1)
	bad := t.linksOf(func(l *link) bool {
		if l.node != node {
			return false
		}
		switch to {
		case "a peer":
			return l.to == t.Nodes[peer].Name
		case "both peers":
			return strings.HasPrefix(l.to, "node-")
		case "everything":
			return true
		}
		return l.to == to
	})
	for _, l := range bad {
		disturb(l)
	}
	return sim.Pause(ctx, badFor)
}

// killWithBadLink kills a node while a link of another node is bad.
func killWithBadLink(ctx context.Context, t *torture, r *result) error {
	node := t.pick(nodes)
	other := (node + 1 + t.pick(nodes-1)) % nodes
	bad := t.linksOf(func(l *link) bool { return l.node == other && l.to != t.Nodes[node].Name })
	l := bad[t.pick(len(bad))]
	how := "cut"
	if t.rng.IntN(2) == 0 {
		how = "black-holed"
		hole := [][2]bool{{true, true}, {true, false}, {false, true}}[t.pick(3)]
		l.Set(proxy.Link{Hold: hole[0]}, proxy.Link{Hold: hole[1]})
	} else {
		l.Cut()
	}
	r.detail = fmt.Sprintf("node-%d, while %s is %s", node+1, l, how)
	if err := sim.Pause(ctx, t.upTo(2*time.Second)); err != nil {
		return err
	}
	if _, err := t.kill(r, node); err != nil {
		return err
	}
	if err := sim.Pause(ctx, 2*time.Second+t.upTo(4*time.Second)); err != nil {
		return err
	}
	return t.Nodes[node].Start()
}

// pick draws a number below n.
func (w *world) pick(n int) int { return w.rng.IntN(n) }

// upTo draws a duration of at most d.
func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.rng.Float64() * float64(d))
}
