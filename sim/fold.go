package sim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"
)

const (
	sessionCap   = 2000 // counted events
	longestBrand = 128  // bytes of an opening_brand
)

// acked is a record as the broker has it.
type acked struct {
	partition int32
	offset    int64
	kafkaTime int64 // Unix milliseconds
	key       []byte
	value     []byte
	keyless   bool // it has no key where it needs one
	held      Held // what held where it was decided
}

// verdict is the outcome that the records of one session must have.
type verdict struct {
	session    *Session // nil if no record was applied
	duplicates []Position
	dead       []Dead
	excluded   int64
	suppressed []Suppressed
	// keysDiffer are the applied records and duplicates under another key than the first applied one.
	keysDiffer int64
}

// fold works out one session, literally by the rules of docs/schema.md.
func fold(id string, records []acked, keyed bool) verdict {
	slices.SortFunc(records, func(a, b acked) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
	})
	var v verdict
	var counted, applied []*observed
	seen := map[string]bool{}
	ended := false
	var firstKey []byte
	first := FirstRules()
	for _, r := range records {
		if who := r.held.Suppressed.of(r.value); who.User || who.Session {
			who.Position, who.Value = Position{r.partition, r.offset}, r.value
			v.suppressed = append(v.suppressed, who)
			continue
		}
		o, reason := judge(r.value, r.kafkaTime, cmp.Or(r.held.Rules, &first))
		if r.keyless && (reason != excluded || len(r.held.Suppressed) == 0) {
			reason = "no_key" // a record that nobody has to ask for is not even decoded
		}
		if reason == "" {
			o.partition, o.offset = r.partition, r.offset
			switch {
			case seen[o.id]:
				v.duplicates = append(v.duplicates, Position{r.partition, r.offset})
				if !bytes.Equal(r.key, firstKey) {
					v.keysDiffer++
				}
				continue
			case o.timestamp < r.kafkaTime/1000-int64(tooOld/time.Second):
				reason = "too_late"
			case o.typ != "session_end" && len(counted) == sessionCap:
				reason = "session_full"
			}
		}
		if reason == excluded {
			v.excluded++
			continue
		}
		if reason != "" {
			v.dead = append(v.dead, Dead{Position: Position{r.partition, r.offset}, Reason: reason})
			continue
		}
		if len(seen) == 0 {
			firstKey = r.key
		} else if !bytes.Equal(r.key, firstKey) {
			v.keysDiffer++
		}
		seen[o.id] = true
		applied = append(applied, o)
		if o.typ == "session_end" {
			ended = true
		} else {
			counted = append(counted, o)
		}
	}
	if len(applied) == 0 {
		return v
	}
	s := &Session{SessionID: id, Status: "expired"}
	if ended {
		s.Status = "closed"
	}
	for i, o := range applied {
		if keyed && i > 0 {
			break
		}
		origin := Origin{Position: originText(o), Date: day(o.timestamp)}
		if brand := o.text["brand"]; len(brand) <= longestBrand {
			origin.Brand = brand
		}
		s.Origins = append(s.Origins, origin)
	}
	for _, o := range applied {
		s.Events = append(s.Events, EventMark{Position: Position{o.partition, o.offset}, Mark: mark(eventRow(o))})
	}
	slices.SortFunc(counted, func(a, b *observed) int {
		return cmp.Or(cmp.Compare(a.timestamp, b.timestamp), cmp.Compare(a.partition, b.partition),
			cmp.Compare(a.offset, b.offset))
	})
	s.columns(counted)
	v.session = s
	return v
}

func originText(o *observed) string {
	return strconv.Itoa(int(o.partition)) + "/" + strconv.FormatInt(o.offset, 10)
}

func day(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.DateOnly) }

// columns fills the columns from the counted events, which are in order.
func (s *Session) columns(counted []*observed) {
	s.TotalEvents = int64(len(counted))
	if len(counted) == 0 {
		return
	}
	first, last := counted[0], counted[len(counted)-1]
	for _, o := range counted {
		switch {
		case o.user == 0: // nobody knows who it was
		case s.UserID == 0:
			s.UserID, s.UserKey = o.user, o.userKey
		case o.user != s.UserID:
			s.SeveralUsers = 1
		}
	}
	for _, c := range sessionColumns {
		if c.first != nil {
			*c.first(s) = first.text[c.name]
		}
	}
	s.Start, s.End = first.timestamp, last.timestamp
	s.Duration = s.End - s.Start

	counts := map[string]int64{}
	pages := map[[2]string]*Page{}
	var categories, articles, titles []string
	var events []any
	for _, o := range counted {
		counts[CountedAs(o.typ)]++
		category, article, title := o.text["category"], o.text["article_id"], o.text["article_title"]
		categories, articles, titles = appendText(categories, category), appendText(articles,
			article), appendText(titles, title)
		shown := map[string]any{"event_type": o.typ, "category": category, "article_id": article,
			"article_title": title, "page_url": o.text["page_url"], "timestamp": o.timestamp,
			"engagement_metrics": o.metrics}
		if o.long {
			shown["engagement_metrics"], shown["engagement_metrics_omitted"] = nil, true
		}
		events = append(events, shown)
		if article != "" {
			p := pages[[2]string{article, o.typ}]
			if p == nil {
				p = &Page{ArticleID: article, EventType: o.typ, Title: title, Category: category}
				pages[[2]string{article, o.typ}] = p
			}
			p.Visits++
		}
		switch o.typ {
		case "article_view":
			s.TimeOnPage += int64(o.metric("time_on_page", 1e9))
			s.MaxScroll = max(s.MaxScroll, int64(o.metric("scroll_depth", 100)))
			s.MaxProgress = max(s.MaxProgress, int64(o.metric("read_progress", 100)))
			if o.says("is_article_complete") {
				s.Completed++
			}
		case "video_play":
			s.VideoWatch += int64(o.metric("playback_position", 1e9))
		case "ad_click":
			s.AdRevenueMicros += int64(math.Round(o.metric("ad_revenue", 1e6) * 1e6))
		}
	}
	for _, c := range sessionColumns {
		if c.typ != "" {
			*c.count(s) = counts[c.typ]
		}
	}
	s.Categories, s.ArticleIDs, s.ArticleTitles = jsonText(categories), jsonText(articles), jsonText(titles)
	s.PagesVisited = int64(len(articles))
	s.UniquePages, s.UniqueCategories = distinct(articles), distinct(categories)
	s.PageEvents = CanonicalPageEvents(jsonText(events))
	for _, p := range pages {
		s.Pages = append(s.Pages, *p)
	}
	slices.SortFunc(s.Pages, func(a, b Page) int {
		return cmp.Or(cmp.Compare(a.ArticleID, b.ArticleID), cmp.Compare(a.EventType, b.EventType))
	})
}

func appendText(list []string, text string) []string {
	if text == "" {
		return list
	}
	return append(list, text)
}

func distinct(list []string) int64 {
	m := map[string]bool{}
	for _, t := range list {
		m[t] = true
	}
	return int64(len(m))
}

// jsonText is the canonical JSON of a list; "[]" for none.
func jsonText[T any](list []T) string {
	if len(list) == 0 {
		return "[]"
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // it came out of encoding/json
	}
	return CanonicalJSON(string(b))
}
