package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"deckle/integration/proxy"
)

// round is one step of the plan.
type round struct {
	kind  string
	kills int // how many nodes it kills, at least
	run   func(ctx context.Context, t *torture, r *result) error
}

// kinds returns the rounds that every plan has, in no particular order, and their weights: how often each is drawn
// beyond that.
func kinds(points []string) (must []round, weights []int) {
	add := func(weight, kills int, kind string, run func(ctx context.Context, t *torture, r *result) error) {
		must, weights = append(must, round{kind, kills, run}), append(weights, weight)
	}
	add(2, 0, "nothing", nothing)
	add(12, 1, "kill leader", killLeader)
	add(4, 1, "kill follower", killFollower)
	add(4, 2, "kill two", killTwo)
	add(4, 3, "kill all", killAll)
	add(2, 1, "kill, stay away", killLong)
	add(2, 1, "delete a folder", deleteFolder)
	add(1, 0, "rolling restart", rollingRestart)
	add(2, 0, "stop leader", stopLeader)
	add(1, 0, "stop two", stopTwo)
	add(1, 0, "restart minio", restartMinIO)
	add(1, 0, "restart clickhouse", restartClickHouse)
	add(1, 0, "restart kafka", restartKafka)
	add(1, 3, "rotate the CA", rotateCA)
	for _, service := range []string{"kafka", "minio", "clickhouse"} {
		add(1, 1, "rotate the password of "+service, rotatePassword(service))
	}
	add(1, 1, "rotate the token", rotateToken)
	for _, point := range points {
		add(2, 1, "kill at "+point, func(ctx context.Context, t *torture, r *result) error {
			return killAt(ctx, t, r, point)
		})
	}
	add(2, 0, "stop at a failpoint, then isolate", stopAt)
	slow := proxy.Link{Delay: 150 * time.Millisecond, Rate: 2 << 20}
	bad := []struct {
		name     string
		up, down proxy.Link
		cut      bool
	}{
		{name: "cut", cut: true},
		{name: "slow", up: slow, down: slow},
		{name: "black-hole", up: proxy.Link{Hold: true}, down: proxy.Link{Hold: true}},
		{name: "black-hole, requests only,", up: proxy.Link{Hold: true}},
		{name: "black-hole, answers only,", down: proxy.Link{Hold: true}},
	}
	for _, to := range []string{"kafka", "minio", "clickhouse", "a peer", "both peers", "everything"} {
		for _, b := range bad {
			add(1, 0, b.name+" a node's way to "+to, func(ctx context.Context, t *torture, r *result) error {
				return badLink(ctx, t, r, to, func(l *link) {
					if b.cut {
						l.Cut()
					} else {
						l.Set(b.up, b.down)
					}
				})
			})
		}
	}
	add(4, 1, "kill with a bad link", killWithBadLink)
	return must, weights
}

// shortLinks are the rounds with bad links that a short plan has.
var shortLinks = map[string]bool{
	"cut a node's way to kafka": true, "black-hole, answers only, a node's way to minio": true,
	"black-hole a node's way to clickhouse": true, "black-hole, requests only, a node's way to both peers": true,
	"slow a node's way to everything": true,
}

// plan draws the rounds of a run: every requested kind once, in any order, and then more until there are enough kills.
// A short plan has only some of the bad links, and no rotations: each takes half a minute.
func plan(rng *rand.Rand, points []string, o options) []round {
	if o.bug != "" {
		return planBug(rng, points)
	}
	must, weights := kinds(points)
	for i, r := range slices.Backward(must) {
		if !strings.Contains(r.kind, o.only) {
			must, weights = slices.Delete(must, i, i+1), slices.Delete(weights, i, i+1)
		}
	}
	var out []round
	n, sum := 0, 0
	for i, r := range must {
		sum += weights[i]
		if o.short && !isShort(r.kind) {
			continue
		}
		out = append(out, r)
		n += r.kills
	}
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	for n < o.kills && n > 0 {
		x := rng.IntN(sum)
		for i, r := range must {
			if x -= weights[i]; x < 0 {
				out = append(out, r)
				n += r.kills
				break
			}
		}
	}
	return out
}

// isShort tells whether a short plan has a round.
func isShort(kind string) bool {
	return !strings.HasPrefix(kind, "rotate ") && (!isLinkRound(kind) || shortLinks[kind])
}

func isLinkRound(kind string) bool { return strings.Contains(kind, " a node's way to ") }

// planBug is the plan for a planted bug: enough of the rounds that bring it out.
func planBug(rng *rand.Rand, points []string) []round {
	must, _ := kinds(points)
	var out []round
	for _, r := range must {
		switch r.kind {
		case "kill at deltaCommitPut", "kill at clickhouseLedgerInserted", "kill at clickhouseSessionsInserted",
			"kill leader":
			out = append(out, r, r)
		}
	}
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
