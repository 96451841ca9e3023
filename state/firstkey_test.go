package state

import (
	"context"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema/level"
)

// keyed is one record of a script of keys.
type keyed struct {
	partition int32
	key       string
	user      uint64
	userKey   string
	again     bool // it is a duplicate of the first record
}

// A session whose records come under several keys, or in several partitions, is spread over the shards: nothing else
// would tell that its figures are counted in parts. A replica that reads the session from its disk before each record
// must come to the same counts as one that has it in memory.
func TestKeysOfASession(t *testing.T) {
	text := event.UserHash("a@example.com")
	for _, c := range []struct {
		name string
		recs []keyed
		want KeyCounts
	}{
		{"the session id", []keyed{{key: "s"}, {key: "s"}, {key: "s", again: true}}, KeyCounts{Records: 2}},
		{"no key, by design in any partition", []keyed{{}, {partition: 1}, {}}, KeyCounts{Records: 2}},
		{"another key, the same", []keyed{{key: "device"}, {key: "device"}}, KeyCounts{Records: 1}},
		{"the event id (F11)", []keyed{{key: "e1"}, {key: "e2"}, {partition: 1, key: "e3"}},
			KeyCounts{Records: 2, Keys: 2}},
		{"a login", []keyed{{key: "s"}, {key: "7", user: 7}, {key: "7", user: 7}, {key: "s"}},
			KeyCounts{Records: 3, Keys: 2, Logins: 2}},
		{"a logout", []keyed{{key: "7", user: 7}, {key: "s"}}, KeyCounts{Records: 1, Keys: 1, Logins: 1}},
		{"the user id", []keyed{{key: "7", user: 7}, {key: "7", user: 7}}, KeyCounts{Records: 1}},
		{"the user id, which not every event names", []keyed{{key: "7"}, {key: "7", user: 7}, {key: "7", user: 7},
			{key: "7", user: 8}}, KeyCounts{Records: 3}},
		{"another user", []keyed{{key: "7", user: 7}, {key: "8", user: 8}, {key: "7", user: 7}},
			KeyCounts{Records: 2, Keys: 1}},
		{"a user known by a text", []keyed{{key: "a@example.com", user: text, userKey: "a@example.com"},
			{key: "a@example.com"}, {key: "b"}}, KeyCounts{Records: 2, Keys: 1, Logins: 1}},
		{"one key in two partitions", []keyed{{key: "s"}, {partition: 1, key: "s"}, {key: "s"},
			{partition: 1, key: "s", again: true}}, KeyCounts{Records: 3, Partitions: 2}},
		{"a key is lost", []keyed{{key: "s"}, {}}, KeyCounts{Records: 1, Keys: 1}},
	} {
		for _, restart := range []bool{false, true} {
			s := &keyScript{t: t, fs: vfs.NewMem(), next: map[int32]int64{}}
			s.open()
			s.apply(EncodeConfig(testConfig()))
			s.apply(EncodeLevel(t0*1000, level.Real))
			for i := range c.recs {
				s.send(i, &c.recs[i], level.Real)
				if restart {
					s.apply(EncodeCut(t0*1000, 0, 0))
					s.reopen()
				}
			}
			got := s.View().Keys
			example := got.Example
			got.Example = nil
			if got != c.want || (example != nil) != (c.want.Keys+c.want.Partitions > 0) {
				t.Errorf("%s, restart %t: %+v, want %+v, example %+v", c.name, restart, got, c.want, example)
			}
			must(t, s.Close())
		}
	}
}

// The example names the records, so that somebody can look at them, and is one of the latest epoch: Kafka forgets old
// records. It is not changed by what comes later in that epoch.
func TestKeyExample(t *testing.T) {
	s := &keyScript{t: t, fs: vfs.NewMem(), next: map[int32]int64{}}
	s.open()
	defer func() { must(t, s.Close()) }()
	s.apply(EncodeConfig(testConfig()))
	s.apply(EncodeLevel(t0*1000, level.Real))
	for i, k := range []keyed{{key: "s"}, {partition: 2, key: "7", user: 7}, {key: "x"}} {
		s.send(i, &k, level.Real)
	}
	open := s.View().OpenEpoch
	want := &KeyExample{Epoch: open, SessionID: "s", First: Position{0, 0}, Other: Position{2, 0},
		FirstKey: event.KeySession, Under: event.KeyUser}
	first := s.View().Keys.Example
	if !reflect.DeepEqual(first, want) {
		t.Errorf("%+v, want %+v", first, want)
	}
	s.apply(EncodeCut(t0*1000, 0, 0))
	s.send(3, &keyed{partition: 1, key: "s"}, level.Real)
	want = &KeyExample{Epoch: open + 1, SessionID: "s", Other: Position{1, 0}, FirstKey: event.KeySession,
		Under: event.KeySession}
	if got := s.View().Keys.Example; !reflect.DeepEqual(got, want) || first.Epoch != open {
		t.Errorf("%+v, want %+v; the first one is now %+v", got, want, first)
	}
}

// Of a session that level 1 has begun nobody knows the first key: it is the first one that level 2 sees. Records before
// that are not compared, and the memory and the disk of a replica agree on it.
func TestKeyOfASessionOfLevelOne(t *testing.T) {
	for _, restart := range []bool{false, true} {
		s := &keyScript{t: t, fs: vfs.NewMem(), next: map[int32]int64{}}
		s.open()
		s.apply(EncodeConfig(testConfig()))
		s.send(0, &keyed{key: "other"}, level.First)
		s.send(1, &keyed{key: "s"}, level.First)
		s.apply(EncodeLevel(t0*1000, level.Real))
		s.send(2, &keyed{key: "s"}, level.First) // an entry of level 1 says nothing of keys
		if restart {
			s.apply(EncodeCut(t0*1000, 0, 0))
			s.reopen()
		}
		s.send(3, &keyed{key: "s"}, level.Real)
		if got := s.View().Keys; got != (KeyCounts{}) {
			t.Errorf("restart %t: %+v before there was anything to compare", restart, got)
		}
		s.send(4, &keyed{key: "s"}, level.Real)
		s.send(5, &keyed{key: "x"}, level.Real)
		if got := s.View().Keys; got.Records != 2 || got.Keys != 1 {
			t.Errorf("restart %t: %+v", restart, got)
		}
		must(t, s.Close())
	}
}

type keyScript struct {
	*Store
	t     *testing.T
	fs    vfs.FS
	index uint64
	next  map[int32]int64
}

func (s *keyScript) open() {
	var err error
	s.Store, err = Open(context.Background(), Options{FS: s.fs, Dir: "shard"})
	must(s.t, err)
}

// reopen reads everything from the disk again. Nothing repeats the entries since the last checkpoint here, so there is
// one of all of them.
func (s *keyScript) reopen() {
	s.t.Helper()
	must(s.t, s.Checkpoint(context.Background()))
	must(s.t, s.Close())
	s.open()
}

func (s *keyScript) apply(entry []byte) {
	s.t.Helper()
	s.index++
	res, err := s.Apply(s.index, 1, entry)
	must(s.t, err)
	if b, ok := res.(*BatchResult); ok && b.Rejected {
		s.t.Fatalf("rejected: %+v", b)
	}
}

// send applies the i-th record of the session s, in an entry of the level.
func (s *keyScript) send(i int, k *keyed, l level.Level) {
	s.t.Helper()
	at := s.next[k.partition]
	s.next[k.partition]++
	it := event.Item{Partition: k.partition, Offset: at, KafkaTimestamp: t0 * 1000, Event: event.Event{
		ID: event.ID{byte(i + 1)}, SessionID: "s", UserID: k.user, UserKey: k.userKey, Type: event.Search,
		Timestamp: t0}}
	if k.again {
		it.ID = event.ID{1}
	}
	if l >= level.Real {
		it.SetKey([]byte(k.key))
	}
	s.apply(AppendBatch(nil, &BatchEntry{Now: t0 * 1000, Level: l, Batch: event.Batch{
		Ranges: []event.Range{{Partition: k.partition, From: at, To: at + 1}}, Items: []event.Item{it}}}))
}

// A key is one or another by its bytes, whichever event it comes with, so the image must hold what tells them apart.
func TestFirstKeyInTheImage(t *testing.T) {
	for _, it := range []event.Item{
		{}, {Key: event.KeyNone}, {Key: event.KeySession}, {Key: event.KeyOther, KeyHash: 7},
		{Key: event.KeyUser, Event: event.Event{UserID: 7}},
		{Key: event.KeyUser, Event: event.Event{UserID: event.UserHash("x"), UserKey: "x"}},
	} {
		var k firstKey
		k.set(&it)
		d := decoder{b: k.encode(nil)}
		back := d.firstKey()
		must(t, d.end())
		if k.user = 0; back != k {
			t.Errorf("%+v, decoded %+v", k, back)
		}
		if !back.same(&it) {
			t.Errorf("%+v is not the key of its own record", back)
		}
	}
	for _, b := range []string{"", "\x06", "\x04\x01\x02\x03"} {
		d := decoder{b: []byte(b)}
		if k := d.firstKey(); d.err == nil {
			t.Errorf("%q is taken as %+v", b, k)
		}
	}
}
