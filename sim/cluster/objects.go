package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"deckle/sim"
	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/store"
)

// objectStore is the S3-compatible store: whole objects, put-if-absent, and the answers that a client may get from one.
type objectStore struct {
	*objects.Mem // what is really there
	rng          *lockedRand

	mu     sync.Mutex
	faults objectFaults
	meet   func(gate *gate, key string) fate // decides what happens to each put, if set
	late   sync.WaitGroup                    // puts that take effect after their client gave up
	put    map[string]int                    // how often each key was written: a data file is never written twice
}

// objectFaults are probabilities per request, except down and slow.
type objectFaults struct {
	down     bool          // nothing answers, and nothing happens
	refuse   float64       // 503, nothing happens
	lost     float64       // it happens, and the answer is an error (500, or a connection that ends)
	ownTwice float64       // a conditional put happens, and the client library repeats it and gets the answer 412
	lateput  float64       // a put fails now and takes effect later, if the key is still free
	slow     time.Duration // how much longer a request may take
	away     *gate         // nothing answers this process, and nothing happens
}

// fate is what a script makes happen to one put.
type fate struct {
	late time.Duration // how much later it takes effect; the client gets a timeout now
	then func()        // called when it has taken effect and has not been answered
}

var errObjects = errors.New("simulated store")

func newObjects(rng *lockedRand) *objectStore {
	return &objectStore{Mem: objects.NewMem(nil), rng: rng, put: map[string]int{}}
}

func (o *objectStore) set(f objectFaults) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = f
}

// script sets what decides the fate of puts, nil for none.
func (o *objectStore) script(meet func(gate *gate, key string) fate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.meet = meet
}

func (o *objectStore) fateOf(gate *gate, key string) fate {
	o.mu.Lock()
	meet := o.meet
	o.mu.Unlock()
	if meet == nil {
		return fate{}
	}
	return meet(gate, key)
}

func (o *objectStore) now() objectFaults {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.faults
}

// client is the store as one process sees it.
type client struct {
	o    *objectStore
	gate *gate
}

var _ store.Store = (*client)(nil)

// request decides whether a request reaches the store.
func (c *client) request(ctx context.Context, op string) (objectFaults, error) {
	f := c.o.now()
	delay := c.o.rng.between(time.Millisecond, 8*time.Millisecond)
	if f.slow > 0 {
		delay += c.o.rng.between(0, f.slow)
	}
	if err := sim.Pause(ctx, delay); err != nil {
		return f, err
	}
	c.gate.wait(ctx)
	switch {
	case c.gate.dead():
		return f, fmt.Errorf("%w: the process is dead", errObjects)
	case ctx.Err() != nil:
		return f, ctx.Err()
	case f.down, f.away != nil && f.away == c.gate:
		_ = sim.Pause(ctx, 2*time.Second)
		return f, fmt.Errorf("%w: no answer to %s", errObjects, op)
	case f.refuse > 0 && c.o.rng.Float64() < f.refuse:
		return f, fmt.Errorf("%w: 503 to %s", errObjects, op)
	}
	return f, nil
}

func (c *client) write(ctx context.Context, op, key string, data []byte, conditional bool) error {
	f, err := c.request(ctx, op)
	if err != nil {
		return err
	}
	do := func() error {
		c.o.count(key)
		if conditional {
			return c.o.Mem.PutIfAbsent(context.Background(), key, data)
		}
		return c.o.Mem.Put(context.Background(), key, data)
	}
	its := c.o.fateOf(c.gate, key)
	if its.late > 0 || f.lateput > 0 && c.o.rng.Float64() < f.lateput {
		after := its.late
		if after == 0 {
			after = c.o.rng.between(0, 20*time.Second)
		}
		data = slices.Clone(data)
		c.o.late.Go(func() {
			time.Sleep(after)
			_ = do() // nobody hears the answer
		})
		_ = sim.Pause(ctx, c.o.rng.between(0, 3*time.Second))
		return fmt.Errorf("%w: timeout of %s", errObjects, op)
	}
	if err := do(); err != nil {
		return err
	}
	if its.then != nil {
		its.then()
	}
	switch {
	case f.lost > 0 && c.o.rng.Float64() < f.lost:
		return fmt.Errorf("%w: 500 to %s", errObjects, op)
	case conditional && f.ownTwice > 0 && c.o.rng.Float64() < f.ownTwice:
		return fmt.Errorf("%w: 412: %w", errObjects, store.ErrExists)
	case c.gate.dead():
		return fmt.Errorf("%w: the process is dead", errObjects)
	}
	return nil
}

func (o *objectStore) count(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.put[key]++
}

// Put implements store.Store.
func (c *client) Put(ctx context.Context, key string, data []byte) error {
	return c.write(ctx, "PUT", key, data, false)
}

// PutIfAbsent implements store.Store.
func (c *client) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return c.write(ctx, "PUT if absent", key, data, true)
}

// PutStreamIfAbsent implements store.Store.
func (c *client) PutStreamIfAbsent(ctx context.Context, key string, size int64, write func(io.Writer) error) error {
	data, err := objects.Streamed(size, write)
	if err != nil {
		return err
	}
	return c.write(ctx, "PUT if absent", key, data, true)
}

// Get implements store.Store.
func (c *client) Get(ctx context.Context, key string) ([]byte, error) {
	if _, err := c.request(ctx, "GET"); err != nil {
		return nil, err
	}
	return c.o.Mem.Get(ctx, key)
}

// GetRange implements store.Store.
func (c *client) GetRange(ctx context.Context, key string, off int64, p []byte) (store.Range, error) {
	if _, err := c.request(ctx, "GET"); err != nil {
		return store.Range{}, err
	}
	return c.o.Mem.GetRange(ctx, key, off, p)
}

// List implements store.Store.
func (c *client) List(ctx context.Context, prefix, startAfter string, yield func(store.Info) error) error {
	if _, err := c.request(ctx, "LIST"); err != nil {
		return err
	}
	return c.o.Mem.List(ctx, prefix, startAfter, yield)
}

// Delete implements store.Store.
func (c *client) Delete(ctx context.Context, key string) error {
	if _, err := c.request(ctx, "DELETE"); err != nil {
		return err
	}
	return c.o.Mem.Delete(ctx, key)
}

// String implements store.Store.
func (c *client) String() string { return "the simulated store" }
