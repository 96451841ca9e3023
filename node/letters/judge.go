package letters

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/kafka"
	"deckle/node/status"
)

// Headers of a record that was replayed.
const (
	headerReplay = "deckle-replay"       // the key of the letter
	headerCount  = "deckle-replay-count" // how often the record, and what it was replayed from, was replayed
)

const (
	// mostReplays is how often a record is replayed without Again: one that has become a letter after two replays will
	// after three.
	mostReplays = 2
	// mostRecord bounds a record that is replayed, so that it fits one batch of any topic.
	mostRecord = 950_000
)

// candidate is a letter that is to be reviewed, and what would be produced for it.
type candidate struct {
	ref    status.LetterRef
	letter *letter
	why    string // why it cannot be done; "" if it can
	value  []byte
	edited bool
	key    []byte
	count  int // of headerCount
	more   []kgo.RecordHeader
}

// refuse notes why it cannot be done, unless something was noted before.
func (c *candidate) refuse(format string, args ...any) {
	if c.why == "" {
		c.why = fmt.Sprintf(format, args...)
	}
}

// prepare works out what a candidate's record would be. An error says that Kafka did not give what is needed.
func (l *Letters) prepare(ctx context.Context, c *candidate, source *topic, again bool) error {
	x := c.letter
	switch {
	case x.Partition == nil:
		c.refuse("it is a row that the sink %s refused, and no record; only records are replayed", x.Sink)
		return nil
	case x.Key != fmt.Sprintf("%s/%d/%d", l.o.Source, *x.Partition, *x.Offset):
		c.refuse("it is not of topic %s", l.o.Source)
		return nil
	case *x.Partition >= source.partitions:
		c.refuse("topic %s has no partition %d", l.o.Source, *x.Partition)
		return nil
	}
	j, err := l.o.Judge(*x.Partition)
	if err == nil {
		err = j.usable()
	}
	if err != nil {
		c.refuse("%v", err)
		return nil
	}
	rec, err := source.at(ctx, *x.Partition, *x.Offset)
	if err != nil {
		return err
	}
	rec = original(rec, x, source.id, &j)
	switch {
	case c.edited:
	case x.Shown == shownWhole:
		c.value = x.rec.Value
	case rec != nil:
		c.value = rec.Value
	default:
		c.refuse("the letter does not show all of its record (%s), and Kafka has it no more where it was", x.Shown)
		return nil
	}
	l.decode(c, rec, &j, source.partitions)
	if c.count > mostReplays && !again {
		c.refuse("it has become a letter again after %d replays (--again does it all the same)", c.count-1)
	}
	if size := len(c.value) + len(c.key); size > mostRecord {
		c.refuse("it has %d bytes, and at most %d are replayed", size, mostRecord)
	}
	return nil
}

// original is what stands at the letter's place in the source topic, nil unless it is the record that was refused: by
// its hash or, where the letter does not have that because it does not show all, by its time, and what the letter shows
// of it, in the topic that the shard reads.
func original(rec *kgo.Record, x *letter, id [16]byte, j *Judge) *kgo.Record {
	if rec == nil || rec.Value == nil || !kafka.SameTopic(id, j.TopicID) {
		return nil
	}
	if x.SHA256 != "" {
		if sum := sha256.Sum256(rec.Value); hex.EncodeToString(sum[:]) != x.SHA256 {
			return nil
		}
		return rec
	}
	if x.SourceTime == nil || rec.Timestamp.UnixMilli() != x.SourceTime.UnixMilli() {
		return nil
	}
	if x.Shown == event.ShownMasked.String() {
		rules := &event.Rules{Letters: event.Letters{Values: event.MaskValues}}
		masked, _ := event.NewRedactor(rules, nil).Value(rec.Value)
		if !bytes.HasPrefix(masked, x.rec.Value) {
			return nil
		}
	}
	return rec
}

// decode looks at what would become of the record if it came now, and gives it its key. rec is the original, nil if
// Kafka has it no more.
func (l *Letters) decode(c *candidate, rec *kgo.Record, j *Judge, partitions int32) {
	var ev event.Event
	dec := event.Decoder{Rules: j.Rules, Key: j.Key}
	dec.Suppress(j.Readers)
	reason, detail := dec.Decode(c.value, l.o.Now().UnixMilli(), &ev)
	switch {
	case reason == event.Excluded, reason == event.Suppressed:
		c.refuse("the rules leave it out now (%s)", detail)
	case reason != event.ReasonNone:
		c.refuse("it would be a letter again: %s: %s", reason, detail)
	case ev.Timestamp < j.Horizon:
		c.refuse("it is of %s, before the horizon, %s: it would be too late again",
			time.Unix(ev.Timestamp, 0).UTC().Format(time.RFC3339), time.Unix(j.Horizon, 0).UTC().Format(time.RFC3339))
	}
	c.count = 1
	switch {
	case rec != nil:
		c.key = rec.Key
		for _, h := range rec.Headers {
			switch h.Key {
			case headerReplay:
			case headerCount:
				n, _ := strconv.Atoi(string(h.Value))
				c.count = max(n, 0) + 1
			default:
				c.more = append(c.more, h)
			}
		}
	case reason == event.ReasonNone:
		c.key = keyOf(&ev, *c.letter.Partition, append([]int32{partitions}, j.Sizes...))
	}
	if j.Keyed && len(c.key) == 0 {
		c.refuse("its record has no key, so its session's shard is not known; its producer must send it again with one")
	}
}

// keyOf is the key that a record had, of which that is not known: the id of its session or, if that leads to another
// partition and the id of the user to this one, by a usual partitioner, the user's. sizes are the numbers of partitions
// that the topic has had.
func keyOf(ev *event.Event, partition int32, sizes []int32) []byte {
	session, user := []byte(ev.SessionID), strconv.AppendUint(nil, ev.UserID, 10)
	for _, key := range [][]byte{session, user} {
		for _, partitions := range sizes {
			for p := range kafka.NumPartitioners {
				if len(key) > 0 && partitions > partition && p.Partition(key, partitions) == partition {
					return key
				}
			}
		}
	}
	return session
}
