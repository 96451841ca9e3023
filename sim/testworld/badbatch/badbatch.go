package badbatch

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Damage is done to one record batch, in place.
type Damage func(batch []byte)

// Places in a record batch.
const (
	magicAt      = 16
	crcAt        = 17
	attributesAt = 21
	deltaAt      = 23 // of the last offset
	headerBytes  = 61
)

// Flip flips a bit of the batch's last byte, so that its checksum is wrong.
func Flip(batch []byte) { batch[len(batch)-1] ^= 4 }

// Codec says that the batch is compressed by a codec that does not exist; the checksum is right.
func Codec(batch []byte) {
	batch[attributesAt+1] |= 7
	seal(batch)
}

// Packed says that the batch is compressed by gzip, which it is not; the checksum is right. Not by zstd, whose decoder
// has goroutines, which a bubble of testing/synctest cannot get rid of.
func Packed(batch []byte) {
	batch[attributesAt+1] = batch[attributesAt+1]&^7 | 1
	seal(batch)
}

// Magic gives the batch a version of the format that does not exist.
func Magic(batch []byte) { batch[magicAt] = 9 }

// Garbage makes the records something else than records; the checksum is right. The client takes such a batch for one
// that was cut off, and neither passes it nor says a word.
func Garbage(batch []byte) {
	batch[attributesAt+1] &^= 7 // not compressed
	for i := headerBytes; i < len(batch); i++ {
		batch[i] = 0xff
	}
	seal(batch)
}

func seal(batch []byte) {
	sum := crc32.Checksum(batch[attributesAt:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(batch[crcAt:], sum)
}

// Broken says what is broken. It is safe for concurrent use.
type Broken struct {
	mu    sync.Mutex
	parts map[int32]spoiled
	met   int
}

type spoiled struct {
	offset int64
	damage Damage
}

// Spoil breaks the batch of a partition that holds the offset, from now on, in every connection.
func (b *Broken) Spoil(partition int32, offset int64, damage Damage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts == nil {
		b.parts = map[int32]spoiled{}
	}
	b.parts[partition] = spoiled{offset, damage}
}

// Mend makes a partition whole again.
func (b *Broken) Mend(partition int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.parts, partition)
}

// MendAll makes all partitions whole again.
func (b *Broken) MendAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.parts)
}

// Met is how many broken batches have been delivered.
func (b *Broken) Met() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.met
}

// Conn wraps a client's connection to a broker.
func (b *Broken) Conn(c net.Conn) net.Conn {
	return &conn{Conn: c, broken: b, fetches: map[int32]int16{}}
}

// answer breaks what is broken among the batches of one partition's answer.
func (b *Broken) answer(p *kmsg.FetchResponseTopicPartition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bad, ok := b.parts[p.Partition]
	for in := p.RecordBatches; ok && len(in) >= headerBytes; {
		first, length := int64(binary.BigEndian.Uint64(in)), 12+int(binary.BigEndian.Uint32(in[8:]))
		if length > len(in) {
			return // cut off by the broker
		}
		if first <= bad.offset && bad.offset <= first+int64(binary.BigEndian.Uint32(in[deltaAt:])) {
			bad.damage(in[:length])
			b.met++
		}
		in = in[length:]
	}
}

// conn reads whole answers, so that it can change them before it hands them on.
type conn struct {
	net.Conn
	broken *Broken

	mu      sync.Mutex
	fetches map[int32]int16 // correlation id of a fetch: version

	// The goroutine that reads owns these.
	raw   []byte // of an answer that is not whole yet
	whole []byte // of answers, for the reader
}

// Write notes the versions of fetches.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) >= 12 && binary.BigEndian.Uint16(p[4:]) == uint16(kmsg.Fetch) {
		c.mu.Lock()
		c.fetches[int32(binary.BigEndian.Uint32(p[8:]))] = int16(binary.BigEndian.Uint16(p[6:]))
		c.mu.Unlock()
	}
	return c.Conn.Write(p)
}

func (c *conn) Read(p []byte) (int, error) {
	for len(c.whole) == 0 {
		buf := make([]byte, max(len(p), 4<<10))
		n, err := c.Conn.Read(buf)
		c.raw = append(c.raw, buf[:n]...)
		for len(c.raw) >= 4 {
			size := 4 + int(binary.BigEndian.Uint32(c.raw))
			if len(c.raw) < size {
				break
			}
			c.change(c.raw[4:size])
			c.whole = append(c.whole, c.raw[:size]...)
			c.raw = append([]byte(nil), c.raw[size:]...)
		}
		if err != nil && len(c.whole) == 0 {
			return 0, err // a deadline does not lose what has come
		}
	}
	n := copy(p, c.whole)
	c.whole = c.whole[n:]
	return n, nil
}

// change breaks batches of one answer, in place.
func (c *conn) change(answer []byte) {
	if len(answer) < 5 {
		return
	}
	id := int32(binary.BigEndian.Uint32(answer))
	c.mu.Lock()
	version, ok := c.fetches[id]
	delete(c.fetches, id)
	c.mu.Unlock()
	if !ok {
		return
	}
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = version
	body := answer[4:]
	if resp.IsFlexible() {
		body = body[1:] // no tags
	}
	if resp.ReadFrom(body) != nil {
		return
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			c.broken.answer(&resp.Topics[i].Partitions[j])
		}
	}
}
