package event

import "strconv"

// protect applies the rules to the event that has been decoded, before anything is computed from it.
func (d *Decoder) protect() {
	p, ev := d.private, d.ev
	d.sent = sent{ev.SessionID, ev.UserID, ev.UserKey}
	for _, w := range p.whole {
		hashes := p.rules[w.rule].Action == HashValue
		switch w.field {
		case fieldEventID:
			text := ev.EventID
			if text == "" {
				text = ev.ID.String()
			}
			ev.EventID = d.arena.text(p.hash(w.rule, text))
			ev.ID = HashID(ev.EventID)
		case fieldSessionID:
			ev.SessionID = d.arena.text(p.hash(w.rule, ev.SessionID))
		case fieldUserID:
			d.protectUser(w.rule, hashes)
		case fieldEngagementMetrics:
			if hashes && ev.EngagementMetrics != "" {
				p.unfit[w.rule]++
			}
			ev.EngagementMetrics, d.metrics = "", metricValues{}
			d.suspect &^= suspectMetrics
		case fieldMetadata:
			if hashes && ev.Metadata != "" {
				p.unfit[w.rule]++
			}
			ev.Metadata = ""
			d.suspect &^= suspectMetadata
		default:
			text := ev.text(w.field)
			if hashes && *text != "" {
				*text = d.arena.text(p.hash(w.rule, *text))
			} else {
				*text = ""
			}
		}
	}
	if len(p.meta) > 0 && ev.Metadata != "" && p.rewrite(bytesOf(ev.Metadata), p.meta) {
		ev.Metadata = d.arena.text(p.out)
		d.suspect |= suspectMetadata
	}
	if len(p.metrics) > 0 && ev.EngagementMetrics != "" && p.rewrite(bytesOf(ev.EngagementMetrics), p.metrics) {
		ev.EngagementMetrics = d.arena.text(p.out)
		d.readMetrics()
	}
	if len(d.extra) > 0 && p.rewrite(d.extra, p.record) {
		if d.extra = append(d.extra[:0], p.out...); len(d.extra) == 2 { // {}
			d.extra = d.extra[:0]
		}
	}
}

func (d *Decoder) protectUser(rule int, hashes bool) {
	ev := d.ev
	switch {
	case !hashes:
		ev.UserID, ev.UserKey = 0, ""
	case ev.UserID != 0:
		id := ev.UserKey
		if id == "" {
			id = strconv.FormatUint(ev.UserID, 10)
		}
		ev.UserKey = d.arena.text(d.private.hash(rule, id))
		ev.UserID = UserHash(ev.UserKey)
	}
}

// readMetrics reads engagement_metrics again, once the rules have changed them: what they have dropped counts as
// nothing in the sums of its session, too.
func (d *Decoder) readMetrics() {
	record := d.scanner
	d.scanner = scanner{in: bytesOf(d.ev.EngagementMetrics), maxName: d.longest}
	d.metrics = metricValues{}
	_, _ = d.object(0, true)
	d.scanner = record
	d.suspect |= suspectMetrics
}

// sent are the ids of a record as they came.
type sent struct {
	session string
	user    uint64
	userKey string
}

// SetKey says, of an event that this Decoder has decoded last, under which Kafka key its record came, as Item.SetKey
// does. The key is compared with the ids as they came, not with what privacy rules have made of them; where a rule is
// about user_id, a key that is the user's is given as another key, since the state cannot compare it with the id that
// it has.
func (d *Decoder) SetKey(it *Item, key []byte) {
	p := d.private
	if p == nil {
		it.SetKey(key)
		return
	}
	came := Item{Event: Event{SessionID: d.sent.session, UserID: d.sent.user, UserKey: d.sent.userKey}}
	if p.watched&(1<<fieldUserID) != 0 {
		came.UserID, came.UserKey = 0, ""
	}
	came.SetKey(key)
	it.Key, it.KeyHash = came.Key, came.KeyHash
}

// Unfit returns, for each rule of Rules.Privacy, how many values its action did not fit since the last Reset. It is nil
// if there is no rule, and must not be changed.
func (d *Decoder) Unfit() []int64 {
	if d.private == nil {
		return nil
	}
	return d.private.unfit
}
