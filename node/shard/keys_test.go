package shard

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/kafka"
	"deckle/state"
)

// Records of a session under two keys are told by themselves, by lookups, and by where keys lie: each finds what the
// others cannot see. None of them tells anything of a cluster of one shard, in which a session cannot be spread.
func TestKeysAreJudged(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	example := &state.KeyExample{SessionID: "s-1", First: state.Position{Partition: 3, Offset: 1234},
		Other: state.Position{Partition: 9, Offset: 99}, FirstKey: event.KeySession, Under: event.KeyUser}
	var k, alone keys
	v := state.View{Config: state.Config{Shards: 6}, Keys: state.KeyCounts{Records: 500, Keys: 400}} // from before
	var p placed
	var l looks
	p.looked, p.by[kafka.CRC32], l.sessions, l.elsewhere = 1000, 10, 50, 50
	for i, s := range []struct {
		after                             time.Duration
		records, keys, logins, partitions int64
		sessions, elsewhere               int64
		looked, murmur, crc, fnv, some    int64
		want                              []string // beginnings of the sentences
		has                               string
	}{
		{want: nil},
		{after: time.Second, records: 9, keys: 9, sessions: 9, elsewhere: 9, looked: 99}, // all, but too few
		{after: time.Second, keys: 0, partitions: 1, records: 1,
			want: []string{"of 10 records of the last 5 minutes that followed another of their session in this " +
				"shard, 9 came under another key than the first one, and 1 in another partition (session \"s-1\": " +
				"3/1234 under the session id, 9/99 under the user id)"}},
		{after: time.Second, records: 11_900, want: []string{"of 11910 records"}}, // 0.084 %: above half of 1/6 %
		{after: time.Second, records: 100},
		{after: time.Second, keys: 10, logins: 10}, // 20 of 12,010
		{after: time.Second, keys: 1, logins: 1, want: []string{"of 12010 records"},
			has: "most changed between the user id and another key: a producer that changes the key when a " +
				"reader logs in"},
		{after: 6 * time.Minute},
		{after: time.Second, sessions: 1000, elsewhere: 10}, // 1 %
		{after: time.Second, elsewhere: 1,
			want: []string{"11 of 1000 sessions that were looked up are in another shard, too, and counted in both " +
				"(session \"both\")"}},
		{after: 6 * time.Minute},
		{after: time.Second, looked: 100, murmur: 90, crc: 20, fnv: 15, some: 95}, // the one explains enough
		{after: 6 * time.Minute},
		{after: time.Second, looked: 100, murmur: 50, crc: 55, fnv: 15, some: 100,
			want: []string{"of 100 records with a key, 55 are where CRC32 of the key would put them"},
			has:  "all of them together explain 100: producers with several partitioners"},
		{after: 6 * time.Minute},
		{after: time.Second, looked: 100, murmur: 20, crc: 17, fnv: 15, some: 45,
			want: []string{"of 100 records with a key, 20 are where murmur2 of the key would put them"},
			has:  "55 are where none of murmur2, CRC32 and FNV-1a puts them (4/17)"},
		{after: time.Second, looked: 900, murmur: 900, some: 900, // 92 %: it holds on up to 95 %
			want: []string{"of 1000 records with a key, 920 are where murmur2"}},
		{after: time.Second, looked: 1000, murmur: 1000, some: 1000},
		{after: time.Second, records: 50, keys: 20, sessions: 20, elsewhere: 20, looked: 4000, murmur: 300, some: 300,
			want: []string{"of 50 records of", "20 of 20 sessions", "of 6000 records with a key"}},
	} {
		if s.after > time.Minute { // the window passes what was before
			at = at.Add(sampleEvery)
			k.judge(&v, p, l, at)
		}
		at = at.Add(s.after)
		v.Keys.Records += s.records
		v.Keys.Keys += s.keys
		v.Keys.Logins += s.logins
		v.Keys.Partitions += s.partitions
		v.Keys.Example = example
		l.sessions, l.elsewhere, l.example = l.sessions+s.sessions, l.elsewhere+s.elsewhere, "both"
		p.looked, p.some, p.stray = p.looked+s.looked, p.some+s.some, state.Position{Partition: 4, Offset: 17}
		p.by[kafka.Murmur2] += s.murmur
		p.by[kafka.CRC32] += s.crc
		p.by[kafka.FNV1a] += s.fnv
		got := k.judge(&v, p, l, at)
		sentences := strings.Split(got, ". ")
		if got == "" {
			sentences = nil
		}
		ok := len(sentences) == len(s.want) && strings.Contains(got, s.has)
		for j := range s.want {
			ok = ok && strings.HasPrefix(sentences[j], s.want[j])
		}
		if !ok {
			t.Errorf("step %d: %q, want %q with %q", i, got, s.want, s.has)
		}
		one := v
		one.Config.Shards = 1
		if got := alone.judge(&one, p, l, at); got != "" {
			t.Errorf("step %d, one shard: %q", i, got)
		}
	}
}

// A session counts once in a window, however long it is among those that changed last: otherwise one session that is
// spread would look like many. A leader looks up a few at a time.
func TestLookupsTakeEachSessionOnce(t *testing.T) {
	var l lookups
	at := time.Unix(1_000_000, 0)
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprint("s", i))
	}
	asked := map[string]int{}
	has := func(id string) bool { asked[id]++; return id == "s7" }
	for i, want := range []int64{8, 16, 20, 20, 20} {
		if l.look(ids, has, at); l.sessions != want {
			t.Fatalf("look %d: %d sessions, want %d", i, l.sessions, want)
		}
		at = at.Add(time.Second)
	}
	if len(asked) != 20 || asked["s7"] != 1 || l.elsewhere != 1 || l.example != "s7" {
		t.Errorf("asked %v, %+v", asked, l.looks)
	}
	at = at.Add(rejectedWindow)
	if l.look(ids, has, at); l.sessions != 20 {
		t.Errorf("%d sessions: those of the last window are asked again", l.sessions)
	}
	at = at.Add(rejectedWindow)
	if l.look(ids, has, at); l.sessions != 28 || len(l.before) != 0 {
		t.Errorf("%d sessions two windows later, %d remembered", l.sessions, len(l.before))
	}
}

// Each usual client explains where its keys are, one that ignores them is explained by none, and after partitions were
// added the records from before still are.
func TestWhereKeysAre(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	send := func(p *placed, n int, sizes []int32, partition func(key []byte) int32) {
		for i := range n {
			key := fmt.Appendf(nil, "session-%d", r.Uint64())
			p.look(&kgo.Record{Key: key, Partition: partition(key), Offset: int64(i)}, sizes)
		}
	}
	by := func(b kafka.Partitioner, n int32) func([]byte) int32 {
		return func(key []byte) int32 { return b.Partition(key, n) }
	}
	for b := range kafka.NumPartitioners {
		var p placed
		send(&p, 500, topicSizes(6, 12, 12), by(b, 12))
		if best, n := p.best(&placed{}); p.looked != 500 || best != b || n != 500 || p.some != 500 {
			t.Errorf("%s: %+v", b, p)
		}
	}
	var p placed
	send(&p, 500, topicSizes(6, 12, 12), func([]byte) int32 { return r.Int32N(12) })
	if _, n := p.best(&placed{}); n > 100 || p.some > 200 || p.stray == (state.Position{}) {
		t.Errorf("at random: %+v", p)
	}
	p = placed{}
	send(&p, 250, topicSizes(6, 18, 12), by(kafka.Murmur2, 12))
	send(&p, 250, topicSizes(6, 18, 12), by(kafka.Murmur2, 18))
	if _, n := p.best(&placed{}); n != 500 {
		t.Errorf("after partitions were added: %+v", p)
	}
	p = placed{}
	p.look(&kgo.Record{Partition: 3}, []int32{12})
	if p != (placed{}) {
		t.Errorf("a record without a key: %+v", p)
	}
	for _, s := range []struct {
		shards       uint32
		now, created int
		want         string
	}{{1, 12, 12, "[]"}, {6, 1, 1, "[]"}, {6, 12, 0, "[12]"}, {6, 12, 12, "[12]"}, {6, 18, 12, "[18 12]"}} {
		if got := fmt.Sprint(topicSizes(s.shards, s.now, s.created)); got != s.want {
			t.Errorf("%+v: %s", s, got)
		}
	}
	if got := fmt.Sprint(topicSizes(6, 18, 12, 6), topicSizes(6, 18, 18, 6), topicSizes(6, 12, 0, 12)); got !=
		"[18 12 6] [18 6] [12]" {
		t.Errorf("grown twice: %s", got)
	}
}
