package cluster

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/status"
)

// maxGrown bounds the partitions of the topic.
const maxGrown = 12

// grow gives the topic one to four partitions more. Records go there at once, and the operator has them read later.
func (w *world) grow(ctx context.Context) func() {
	w.grown.mu.Lock()
	defer w.grown.mu.Unlock()
	n := 1 + w.rng.IntN(4)
	before := max(w.grown.to, w.opts.Partitions)
	if before+int32(n) > maxGrown {
		return func() {}
	}
	cl, err := kgo.NewClient(w.kafkaOpts("grower")...)
	if err != nil {
		return func() {}
	}
	defer cl.Close()
	cctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answers, err := kadm.NewClient(cl).CreatePartitions(cctx, n, topic)
	if err == nil {
		err = answers.Error()
	}
	// Whatever was answered: the operator asks for what there is.
	w.grown.to = before + int32(n)
	w.grown.due = time.Now().Add(w.rng.between(0, 15*time.Second))
	w.history.fault("partitions", "%d instead of %d; %v", w.grown.to, before, err)
	return func() {}
}

// addPartitions has new partitions be read, as an operator does who repeats it until every shard has done it.
func (w *world) addPartitions(ctx context.Context) {
	w.grown.mu.Lock()
	to, ask := w.grown.to, w.grown.to > w.grown.added && !time.Now().Before(w.grown.due)
	w.grown.mu.Unlock()
	if !ask {
		return
	}
	inc := w.anyMember().current()
	if inc == nil {
		return
	}
	cctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := inc.node.AddPartitions(cctx, status.AddPartitions{Asker: status.Asker{Principal: "none", Role: "admin",
		Request: "0123456789abcdef"}})
	w.history.add("operator", "partitions to %d at %s: %+v, %v", to, inc.host, out, err)
	if err == nil && out.Whole && out.To >= to {
		w.grown.mu.Lock()
		w.grown.added = out.To
		w.grown.mu.Unlock()
	}
}
