// Package objects has a store in memory that fails in the ways that matter, and an S3 server within the process.
package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"deckle/sinks/delta/store"
)

// ErrFault is what an injected failure wraps.
var ErrFault = errors.New("objects: injected fault")

// Faults are probabilities of one request, drawn in this order.
type Faults struct {
	Before   float64 // it fails and does nothing (503)
	Lost     float64 // a put takes effect, but the answer is an error
	OwnTwice float64 // a conditional put takes effect, and its repetition by the client is answered: ErrExists
	Late     float64 // a conditional put fails now, and takes effect at some later request, if the key is still free
}

// Mem is a store in memory. The zero value is not ready: use NewMem.
type Mem struct {
	mu      sync.Mutex
	objects map[string]object
	rng     *rand.Rand
	faults  Faults
	late    []lateput
	puts    uint64
	now     func() time.Time
	hook    func(op, key string) error

	// Unconditional makes conditional puts behave like plain ones.
	Unconditional bool
}

type object struct {
	data     []byte
	modified time.Time
	number   uint64 // of the put that made it
}

type lateput struct {
	key  string
	data []byte
}

// NewMem returns an empty store without faults. now gives the objects' times; nil is time.Now.
func NewMem(now func() time.Time) *Mem {
	if now == nil {
		now = time.Now
	}
	return &Mem{objects: map[string]object{}, now: now}
}

// SetFaults turns faults on, drawn from the seed; the zero Faults turn them off.
func (m *Mem) SetFaults(seed uint64, f Faults) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rng, m.faults = rand.New(rand.NewPCG(seed, 1)), f
}

// SetHook has a function called before every request with its name and key, several at the same time; an error becomes
// the answer of the request. Nil ends that.
func (m *Mem) SetHook(hook func(op, key string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// Overwrite replaces an object without the writers' knowledge, as a damaged disk would.
func (m *Mem) Overwrite(key string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = m.made(slices.Clone(data))
}

// Contents returns what is really there by key. Nobody may change it.
func (m *Mem) Contents() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string][]byte, len(m.objects))
	for k, o := range m.objects {
		all[k] = o.data
	}
	return all
}

// Keys returns all keys with the prefix, ascending.
func (m *Mem) Keys(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for k := range m.objects {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// made is a new object. The caller holds the lock.
func (m *Mem) made(data []byte) object {
	m.puts++
	return object{data, m.now(), m.puts}
}

// begin draws what happens to the request. It returns with the lock held.
func (m *Mem) begin(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		m.mu.Lock()
		return err
	}
	m.mu.Lock()
	hook := m.hook
	m.mu.Unlock()
	if hook != nil {
		if err := hook(op, key); err != nil {
			m.mu.Lock()
			return err
		}
	}
	m.mu.Lock()
	for len(m.late) > 0 && m.rng != nil && m.rng.Float64() < 0.3 {
		l := m.late[0]
		m.late = m.late[1:]
		if _, ok := m.objects[l.key]; !ok {
			m.objects[l.key] = m.made(l.data)
		}
	}
	if m.draw(m.faults.Before) {
		return fmt.Errorf("%w: 503 before %s", ErrFault, op)
	}
	return nil
}

func (m *Mem) draw(p float64) bool { return p > 0 && m.rng.Float64() < p }

// Put implements store.Store.
func (m *Mem) Put(ctx context.Context, key string, data []byte) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	err := m.begin(ctx, "put", key)
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	m.objects[key] = m.made(slices.Clone(data))
	if m.draw(m.faults.Lost) {
		return fmt.Errorf("%w: answer lost", ErrFault)
	}
	return nil
}

// PutIfAbsent implements store.Store.
func (m *Mem) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if m.Unconditional {
		return m.Put(ctx, key, data)
	}
	if err := store.CheckKey(key); err != nil {
		return err
	}
	err := m.begin(ctx, "put-if-absent", key)
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	if _, ok := m.objects[key]; ok {
		return fmt.Errorf("put %s: %w", key, store.ErrExists)
	}
	if m.draw(m.faults.Late) {
		m.late = append(m.late, lateput{key, slices.Clone(data)})
		return fmt.Errorf("%w: timeout", ErrFault)
	}
	m.objects[key] = m.made(slices.Clone(data))
	switch {
	case m.draw(m.faults.Lost):
		return fmt.Errorf("%w: answer lost", ErrFault)
	case m.draw(m.faults.OwnTwice):
		return fmt.Errorf("put %s: %w", key, store.ErrExists)
	}
	return nil
}

// PutStreamIfAbsent implements store.Store.
func (m *Mem) PutStreamIfAbsent(ctx context.Context, key string, size int64, write func(io.Writer) error) error {
	data, err := Streamed(size, write)
	if err != nil {
		return err
	}
	return m.PutIfAbsent(ctx, key, data)
}

// Streamed are the bytes of an object that is given as a stream of a size.
func Streamed(size int64, write func(io.Writer) error) ([]byte, error) {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return nil, err
	}
	if int64(b.Len()) != size {
		return nil, fmt.Errorf("%w: %d of %d", store.ErrStreamed, b.Len(), size)
	}
	return b.Bytes(), nil
}

// Get implements store.Store.
func (m *Mem) Get(ctx context.Context, key string) ([]byte, error) {
	if err := store.CheckForeign(key); err != nil {
		return nil, err
	}
	err := m.begin(ctx, "get", key)
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	o, ok := m.objects[key]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", key, store.ErrNotFound)
	}
	return slices.Clone(o.data), nil
}

// GetRange implements store.Store.
func (m *Mem) GetRange(ctx context.Context, key string, off int64, p []byte) (r store.Range, err error) {
	err = m.begin(ctx, "get", key)
	defer m.mu.Unlock()
	if err != nil {
		return r, err
	}
	o, ok := m.objects[key]
	if !ok {
		return r, fmt.Errorf("get %s: %w", key, store.ErrNotFound)
	}
	r.Size = int64(len(o.data))
	if off < 0 {
		off = max(0, r.Size-int64(len(p)))
	}
	if off >= r.Size {
		return r, fmt.Errorf("get %s: %w", key, store.ErrRange)
	}
	r.N, r.Image = copy(p, o.data[off:]), fmt.Sprint(o.number)
	return r, nil
}

// List implements store.Store.
func (m *Mem) List(ctx context.Context, prefix, startAfter string, yield func(store.Info) error) error {
	err := m.begin(ctx, "list", prefix)
	var found []store.Info
	for k, o := range m.objects {
		if strings.HasPrefix(k, prefix) && k > startAfter {
			found = append(found, store.Info{Key: k, Size: int64(len(o.data)), Modified: o.modified})
		}
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	slices.SortFunc(found, func(a, b store.Info) int { return strings.Compare(a.Key, b.Key) })
	for _, i := range found {
		if err := yield(i); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements store.Store.
func (m *Mem) Delete(ctx context.Context, key string) error {
	if err := store.CheckForeign(key); err != nil {
		return err
	}
	err := m.begin(ctx, "delete", key)
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	delete(m.objects, key)
	return nil
}

// String implements store.Store.
func (m *Mem) String() string { return "memory" }
