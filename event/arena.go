package event

import "unsafe"

const (
	arenaChunk  = 64 << 10 // bytes of an ordinary chunk
	arenaRetain = 64       // ordinary chunks kept by reset, so at most 4 MiB
)

// arena hands out bytes that stay where they are until reset, so that strings may point into it. Texts larger than an
// ordinary chunk get an allocation of their own, which reset gives back.
type arena struct {
	chunks [][]byte
	cur    int // chunks[:cur] are full, chunks[cur:] are empty or in use
}

// alloc returns n bytes of undefined content.
func (a *arena) alloc(n int) []byte {
	if n > arenaChunk {
		return make([]byte, n)
	}
	for a.cur < len(a.chunks) {
		c := a.chunks[a.cur]
		if cap(c)-len(c) >= n {
			a.chunks[a.cur] = c[:len(c)+n]
			return c[len(c) : len(c)+n : len(c)+n]
		}
		a.cur++
	}
	c := make([]byte, n, arenaChunk)
	a.chunks = append(a.chunks, c)
	return c[:n:n]
}

// give returns the unused last n bytes of the latest alloc.
func (a *arena) give(p []byte, n int) []byte {
	if len(p) <= arenaChunk {
		c := a.chunks[a.cur]
		a.chunks[a.cur] = c[:len(c)-n]
	}
	return p[:len(p)-n]
}

// text copies p.
func (a *arena) text(p []byte) string {
	if len(p) == 0 {
		return ""
	}
	q := a.alloc(len(p))
	copy(q, p)
	return alias(q)
}

func (a *arena) reset() {
	if len(a.chunks) > arenaRetain {
		clear(a.chunks[arenaRetain:])
		a.chunks = a.chunks[:arenaRetain]
	}
	for i := range a.chunks {
		a.chunks[i] = a.chunks[i][:0]
	}
	a.cur = 0
}

// alias returns p as a string without a copy: nobody may write to p while the string is in use.
func alias(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }

// bytesOf returns s as bytes without a copy: nobody may write to them.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
