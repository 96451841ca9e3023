package state

import (
	"encoding/binary"
	"strings"

	"deckle/event"
)

// visit is what a session keeps from level 2 on, beside what level 1 keeps: its first known user, and the figures of
// its articles. An image of level 1 has the user of the first event in its place.
type visit struct {
	// real says that userID is the first known user, and that the fields below are kept. It is set for a session that
	// begins at level 2, and by upgrade.
	real bool
	// former says that some of the session's events were decoded by the rules of v0.1.0. Their figures are unknown, and
	// their JSON texts are not normalised.
	former  bool
	userKey string // of a user who is known by a text
	userAt  order  // the place of the first event that names the user; valid if userID is not 0
	several bool   // the counted events name more than one known user

	maxProgress uint8
	completed   uint32
}

// Bits of an image's flags, beside those of level 1.
const (
	flagSeveral   = 1 << 3
	flagFormer    = 1 << 4
	flagUserFirst = 1 << 5 // the user stands in the session's first event, or none is known
)

// see takes from a counted event what a visit keeps. The result does not depend on the order in which events arrive.
func (s *session) see(it *event.Item, o order) {
	if it.Type == event.ArticleView {
		s.maxProgress = max(s.maxProgress, it.Progress)
		if it.Complete {
			s.completed++
		}
	}
	if it.UserID == 0 {
		return
	}
	if s.userID != 0 {
		s.several = s.several || it.UserID != s.userID
		// gofail: var bugUserByArrival struct{}
		// return
		if o.compare(s.userAt) > 0 {
			return
		}
	}
	s.userAt = o
	if it.UserID != s.userID {
		s.userID, s.userKey = it.UserID, strings.Clone(it.UserKey)
	}
}

// upgrade makes a session of level 1 one of level 2. The result follows from what its image of level 1 holds alone, so
// that it is the same on a replica that has the session in memory and on one that reads it later.
func (s *session) upgrade() {
	s.visit = visit{real: true, former: s.total > 0}
	if s.userID != 0 {
		s.userAt = s.first
	}
}

func (v *visit) flags(shape imageShape, first order, userID uint64) (f byte) {
	if !shape.real {
		return 0
	}
	if v.several {
		f |= flagSeveral
	}
	if v.former {
		f |= flagFormer
	}
	if userID == 0 || v.userAt == first {
		f |= flagUserFirst
	}
	return f
}

// encodeUser appends the user: from level 2 on the key, then, without a key, the number, and then the place of the
// event that names it, if that is not the session's first event.
func (s *session) encodeUser(dst []byte, shape imageShape) []byte {
	if !shape.real {
		return binary.AppendUvarint(dst, s.userID)
	}
	if dst = appendText(dst, s.userKey); s.userKey == "" {
		dst = binary.AppendUvarint(dst, s.userID)
	}
	if s.userID != 0 && s.userAt != s.first {
		dst = binary.AppendVarint(dst, s.userAt.ts)
		dst = appendOrigin(dst, s.userAt.pos)
	}
	return dst
}

// decodeUser reads what encodeUser appends, with the flags of the image. If the user stands in the first event, decode
// sets its place.
func (s *session) decodeUser(d *decoder, shape imageShape, flags byte) {
	s.visit = visit{real: shape.real}
	if !shape.real {
		s.userID = d.uvarint()
		return
	}
	s.several, s.former = flags&flagSeveral != 0, flags&flagFormer != 0
	if s.userKey = d.string(); s.userKey != "" {
		s.userID = event.UserHash(s.userKey)
	} else {
		s.userID = d.uvarint()
	}
	if flags&flagUserFirst != 0 {
		return
	}
	if s.userAt.ts = d.varint(); s.userID == 0 && d.err == nil {
		d.fail("place of no user")
	}
	if o := d.bytes(originSize); o != nil {
		s.userAt.pos = decodeOrigin(o)
	}
}
