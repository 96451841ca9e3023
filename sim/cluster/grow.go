package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/status"
)

// maxGrown bounds the partitions of the topic.
const maxGrown = 12

// grown is what the topic has got, and when the operator has it read.
type grown struct {
	mu    sync.Mutex
	to    int32 // partitions of the topic; 0: as many as at the beginning
	added int32 // partitions that are read as a whole, as the operator was told
	due   time.Time
}

// grow gives the topic one to four partitions more. Records go there at once, and the operator has them read later.
func (w *world) grow(ctx context.Context) func() {
	w.grown.mu.Lock()
	defer w.grown.mu.Unlock()
	n := 1 + w.rng.IntN(4)
	before := max(w.grown.to, w.opts.Partitions)
	if before+int32(n) > maxGrown {
		return nothing
	}
	cl, err := kgo.NewClient(w.kafkaOpts("grower")...)
	if err != nil {
		return nothing
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
	return nothing
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
