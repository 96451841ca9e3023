package shard

import (
	"fmt"
	"strings"
	"time"

	"deckle/node/condition"
	"deckle/node/kafka"
	"deckle/state"
)

// keys judges whether the records of a session come to one shard. Three figures tell, each of another kind of lie:
//
//	records of a session under two keys,      what the state counts: of two keys, one in as many as there are shards
//	or in two partitions, within the shard    comes to the same shard
//	sessions that are in two shards           looked up in the other shards' replicas on this node
//	keys that are where no hash puts them     what the intake looks at
type keys struct {
	window                         window[keysSeen]
	spread, elsewhere, unexplained bool // the condition holds for that reason
}

// keysSeen is what had been counted at one time.
type keysSeen struct {
	state.KeyCounts
	placed placed
	looks  looks
}

// looks counts sessions that were looked up in the other shards.
type looks struct {
	sessions  int64
	elsewhere int64  // those that another shard has, too
	example   string // the id of one of them
}

// judge says why the keys of the last minutes do not keep sessions together; "" if they do, as far as can be seen.
func (k *keys) judge(view *state.View, p placed, l looks, now time.Time) string {
	s := keysSeen{view.Keys, p, l}
	first := k.window.begin(s, now)
	if view.Config.Shards < 2 {
		return ""
	}
	var why []string
	for _, text := range []string{k.ofRecords(&s, first, view.Config.Shards), k.ofSessions(&s, first),
		k.ofPartitions(&s, first)} {
		if text != "" {
			why = append(why, text)
		}
	}
	return strings.Join(why, ". ")
}

func (k *keys) ofRecords(s, first *keysSeen, shards uint32) string {
	other, moved := s.Keys-first.Keys, s.Partitions-first.Partitions
	records := s.Records - first.Records
	if !many(other+moved, records, condition.KeysShare/float64(shards), &k.spread) {
		return ""
	}
	text := fmt.Sprintf("of %d records of the last %d minutes that followed another of their session in this shard, "+
		"%d came under another key than the first one, and %d in another partition", records, condition.RejectedMinutes,
		other, moved)
	if e := s.Example; e != nil {
		text += fmt.Sprintf(" (session %.80q: %s under %s, %s under %s)", e.SessionID, e.First.Text(),
			e.FirstKey, e.Other.Text(), e.Under)
	}
	if 2*(s.Logins-first.Logins) > other+moved {
		text += "; most changed between the user id and another key: a producer that changes the key when a " +
			"reader logs in"
	}
	return text
}

func (k *keys) ofSessions(s, first *keysSeen) string {
	n, of := s.looks.elsewhere-first.looks.elsewhere, s.looks.sessions-first.looks.sessions
	if !many(n, of, condition.KeysShare, &k.elsewhere) {
		return ""
	}
	return fmt.Sprintf("%d of %d sessions that were looked up are in another shard, too, and counted in both "+
		"(session %.80q)", n, of, s.looks.example)
}

func (k *keys) ofPartitions(s, first *keysSeen) string {
	looked, some := s.placed.looked-first.placed.looked, s.placed.some-first.placed.some
	by, n := s.placed.best(&first.placed)
	share := condition.PlacedShare
	if k.unexplained {
		share = (1 + share) / 2 // so that it does not begin and end all the time
	}
	k.unexplained = looked >= condition.PlacedFew && float64(n) < share*float64(looked)
	if !k.unexplained {
		return ""
	}
	text := fmt.Sprintf("of %d records with a key, %d are where %s of the key would put them, and no other usual "+
		"partitioner explains more", looked, n, by)
	if float64(some) >= share*float64(looked) {
		return text + "; all of them together explain " + fmt.Sprint(some) + ": producers with several partitioners"
	}
	return text + fmt.Sprintf("; %d are where none of %s, %s and %s puts them (%s)", looked-some, kafka.Murmur2,
		kafka.CRC32, kafka.FNV1a, s.placed.stray.Text())
}
