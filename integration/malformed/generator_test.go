package malformed

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"

	"deckle/event"
)

// fullSession is the one session, in partition 0, that gets more events than a session may count.
const fullSession = "full"

// sessionCap is the limit in docs/schema.md.
const sessionCap = 2000

// flood is a topic as a function: record i of partition p is always the same.
type flood struct {
	now int64 // the Kafka timestamp of every record, Unix seconds
}

// lead is the number of records of a partition that come first and alone, so that the shard has a clock and a full
// session.
func (f flood) lead(p int32) int64 {
	if p == 0 {
		return 1 + sessionCap
	}
	return 1
}

// record returns key and value, and the reason why the record cannot be used; ReasonNone for a good record.
func (f flood) record(p int32, i int64) (key, value []byte, reason event.Reason) {
	r := rand.New(rand.NewPCG(uint64(p)+1, uint64(i)))
	session := fmt.Sprintf("s-%d-%d", p, i/200)
	good := func() string { return f.event(p, i, session, "article_view", f.now-60) }
	switch {
	case i == 0:
		return []byte(session), []byte(good()), event.ReasonNone
	case i < f.lead(p):
		session = fullSession
		return []byte(session), []byte(good()), event.ReasonNone
	case r.IntN(20) == 0:
		return []byte(session), []byte(good()), event.ReasonNone
	case r.IntN(20_000) == 0 || i == f.lead(p)+5:
		long := bytes.Repeat([]byte("x"), event.MaxRecord)
		return []byte(session), append([]byte(`{"blob":"`), long...), event.TooLarge
	}
	switch kind := r.IntN(8); kind {
	case 0, 1:
		return []byte(session), f.broken(r, good()), event.Malformed
	case 2:
		return []byte(session), []byte(strings.Replace(good(), `"user_id":7`, `"user_id":-7`, 1)), event.WrongType
	case 3:
		without := strings.Replace(good(), `"event_type":"article_view",`, "", 1)
		return []byte(session), []byte(without), event.MissingField
	case 4:
		return []byte(session), []byte(f.event(p, i, session, "article_burn", f.now-60)), event.UnknownEventType
	case 5:
		at := []int64{f.now + 7200, 946684799, -5, 1 << 33}[r.IntN(4)]
		return []byte(session), []byte(f.event(p, i, session, "article_view", at)), event.BadTimestamp
	case 6:
		if p == 0 && r.IntN(2) == 0 {
			return []byte(fullSession), []byte(f.event(p, i, fullSession, "search", f.now-50)), event.SessionFull
		}
		return []byte(session), []byte(f.event(p, i, session+"-late", "article_view", f.now-7*3600)), event.TooLate
	default:
		return nil, []byte(good()), event.NoKey
	}
}

func (f flood) event(p int32, i int64, session, kind string, at int64) string {
	return fmt.Sprintf(`{"event_id":"%08x-0000-4000-8000-%012x","session_id":%q,"user_id":7,"event_type":%q,`+
		`"timestamp":%d,"brand":"b","article_id":"a%d"}`,
		p, i, session, kind, at, i%50)
}

// broken spoils a good record in one of many ways.
func (f flood) broken(r *rand.Rand, good string) []byte {
	switch r.IntN(8) {
	case 0:
		return []byte(good[:r.IntN(len(good))])
	case 1:
		return []byte(good + "}")
	case 2:
		b := []byte(good)
		b[strings.Index(good, `"b"`)+1] = 0xff // not UTF-8
		return b
	case 3:
		deep := strings.Repeat("[", 65) + strings.Repeat("]", 65)
		return []byte(strings.Replace(good, `"brand":"b"`, `"brand":`+deep, 1))
	case 4:
		return []byte(strings.Replace(good, `"brand":"b"`, `"brand":"b","brand":"b"`, 1))
	case 5:
		return []byte(strings.Replace(good, `"brand":"b"`, `"brand":"\ud800"`, 1))
	case 6:
		b := make([]byte, 1+r.IntN(400))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0] = 0xfe
		return b
	default:
		return []byte{} // empty, which is not null
	}
}
