package shard

import "time"

const (
	// lookMost is how many sessions a leader looks up in the other shards each time that it judges.
	lookMost = 8
	// lookAmong is how many of those that changed last it chooses from.
	lookAmong = 64
)

// lookups looks up sessions of a shard in the others: two keys of one session mostly come to two shards, and none of
// them can see that by itself. It looks a session up once in a window: a few sessions must not count as many.
type lookups struct {
	looks
	began         time.Time // of the present generation
	before, since map[string]struct{}
}

// look takes ids of sessions of the shard, the latest first, and looks up some. has says whether another shard has one.
func (l *lookups) look(ids []string, has func(id string) bool, now time.Time) {
	if l.since == nil || now.Sub(l.began) >= rejectedWindow {
		l.before, l.since, l.began = l.since, map[string]struct{}{}, now
	}
	left := lookMost
	for _, id := range ids {
		_, before := l.before[id]
		if _, since := l.since[id]; before || since {
			continue
		}
		l.since[id] = struct{}{}
		l.sessions++
		if has(id) {
			l.elsewhere++
			l.example = id
		}
		if left--; left == 0 {
			return
		}
	}
}
