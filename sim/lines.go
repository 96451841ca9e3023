package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Header begins a truth.
type Header struct {
	Version int    `json:"version"`
	Topic   string `json:"topic"`
	Seed    uint64 `json:"seed"`
	Keyed   bool   `json:"keyed"`
	// Sharded says that a record without a key is a dead letter.
	Sharded bool `json:"sharded,omitempty"`
}

// Position is the place of a record in the topic.
type Position struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

// Dead is a record that must be a dead letter.
type Dead struct {
	Position
	Reason string `json:"reason"`
}

// Origin is a possible origin of a session, and the day and the brand that go with it.
type Origin struct {
	Position string `json:"position"` // "partition/offset"
	Date     string `json:"date"`     // 2006-01-02
	Brand    string `json:"brand,omitempty"`
}

// Page is a row of page_analytics without what it shares with its session.
type Page struct {
	ArticleID string `json:"article_id"`
	EventType string `json:"event_type"`
	Visits    int64  `json:"visit_count"`
	Title     string `json:"article_title"`
	Category  string `json:"category"`
}

// EventMark is an applied record.
type EventMark struct {
	Position
	Mark Mark
}

// Session is what the tables must show of one session. If TotalEvents is 0 it has no row, only Events.
type Session struct {
	SessionID           string      `json:"session_id"`
	Origins             []Origin    `json:"origins"` // never empty; one in keyed mode
	UserID              uint64      `json:"user_id"`
	UserKey             string      `json:"user_key"`
	SeveralUsers        int64       `json:"several_users"`
	Brand               string      `json:"brand"`
	Country             string      `json:"country"`
	City                string      `json:"city"`
	DeviceType          string      `json:"device_type"`
	DeviceOS            string      `json:"device_os"`
	Browser             string      `json:"browser"`
	SubscriptionTier    string      `json:"subscription_tier"`
	UserSegment         string      `json:"user_segment"`
	Referrer            string      `json:"referrer"`
	Timezone            string      `json:"timezone"`
	Start               int64       `json:"session_start"` // Unix seconds
	End                 int64       `json:"session_end"`   // Unix seconds
	Duration            int64       `json:"session_duration_sec"`
	TotalEvents         int64       `json:"total_events"`
	ArticleViews        int64       `json:"article_views"`
	ArticleClicks       int64       `json:"article_clicks"`
	VideoPlays          int64       `json:"video_plays"`
	NewsletterSignups   int64       `json:"newsletter_signups"`
	AdClicks            int64       `json:"ad_clicks"`
	Searches            int64       `json:"searches"`
	SubscriptionPrompts int64       `json:"subscription_prompts"`
	Navigations         int64       `json:"navigations"`
	OtherEvents         int64       `json:"other_events"`
	Categories          string      `json:"categories_visited"` // JSON, canonical, as the next three
	ArticleIDs          string      `json:"article_ids_visited"`
	ArticleTitles       string      `json:"article_titles_visited"`
	PagesVisited        int64       `json:"pages_visited_count"`
	UniquePages         int64       `json:"unique_pages_count"`
	UniqueCategories    int64       `json:"unique_categories_count"`
	PageEvents          string      `json:"page_events"`
	TimeOnPage          int64       `json:"time_on_page_sec"`
	VideoWatch          int64       `json:"video_watch_sec"`
	MaxScroll           int64       `json:"max_scroll_depth"`
	MaxProgress         int64       `json:"max_read_progress"`
	Completed           int64       `json:"articles_completed"`
	AdRevenueMicros     int64       `json:"ad_revenue_micros"`
	Status              string      `json:"status"`
	Pages               []Page      `json:"pages"`
	Events              []EventMark `json:"events"`
}

// Span is what was produced into one partition.
type Span struct {
	From    int64 `json:"from"` // least offset
	To      int64 `json:"to"`   // greatest offset + 1
	Records int64 `json:"records"`
}

// Summary ends a truth: Produced = Applied + Duplicates + Excluded + Suppressed + all DeadLetters.
type Summary struct {
	Produced    int64            `json:"produced"` // acknowledged records
	Events      int64            `json:"events"`   // counted events
	Sessions    int64            `json:"sessions"` // with a row
	Applied     int64            `json:"applied"`  // Events and session_ends
	Duplicates  int64            `json:"duplicates"`
	Excluded    int64            `json:"excluded"`             // records that the rule of BotField leaves out
	Suppressed  int64            `json:"suppressed,omitempty"` // records of suppressed readers
	KeysDiffer  int64            `json:"keys_differ"`          // of Applied, Duplicates: not their session's first key
	DeadLetters map[string]int64 `json:"dead_letters"`         // by reason
	Partitions  map[int32]Span   `json:"partitions"`
	Sums        map[string]int64 `json:"sums"`      // of MetricColumns
	Uncertain   int64            `json:"uncertain"` // records that were perhaps delivered: the truth is then not exact
	Mistaken    int64            `json:"mistaken"`  // records with another outcome than the generator meant
}

// Dead returns the number of all dead letters.
func (s *Summary) Dead() int64 {
	n := int64(0)
	for _, c := range s.DeadLetters {
		n += c
	}
	return n
}

// Add adds another truth's summary.
func (s *Summary) Add(o *Summary) {
	s.init()
	s.Produced += o.Produced
	s.Events += o.Events
	s.Sessions += o.Sessions
	s.Applied += o.Applied
	s.Duplicates += o.Duplicates
	s.Excluded += o.Excluded
	s.Suppressed += o.Suppressed
	s.KeysDiffer += o.KeysDiffer
	s.Uncertain += o.Uncertain
	s.Mistaken += o.Mistaken
	for r, n := range o.DeadLetters {
		s.DeadLetters[r] += n
	}
	for c, n := range o.Sums {
		s.Sums[c] += n
	}
	for p, b := range o.Partitions {
		a, ok := s.Partitions[p]
		if ok {
			b = Span{min(a.From, b.From), max(a.To, b.To), a.Records + b.Records}
		}
		s.Partitions[p] = b
	}
}

func (s *Summary) init() {
	if s.DeadLetters == nil {
		s.DeadLetters, s.Partitions, s.Sums = map[string]int64{}, map[int32]Span{}, map[string]int64{}
	}
}

// addSession counts a session that has a row.
func (s *Summary) addSession(e *Session) {
	s.Sessions++
	s.Events += e.TotalEvents
	for _, c := range sessionColumns {
		if c.summed {
			n, _ := strconv.ParseInt(c.text(e), 10, 64)
			s.Sums[c.name] += n
		}
	}
}

// Line is one line of a truth: exactly one pointer is set.
type Line struct {
	Header    *Header
	Session   *Session
	Dead      *Dead
	Duplicate *Position
	Summary   *Summary
}

// Source is a truth that can be read, any number of times.
type Source interface {
	// Each calls yield for every line in order; yield may keep what it is given. The last line is the Summary: a truth
	// without one is an error (ErrUnfinished).
	Each(yield func(Line) error) error
}

func (l Line) encode(b *bytes.Buffer) error {
	kind, v := "", any(nil)
	switch {
	case l.Header != nil:
		kind, v = kindHeader, l.Header
	case l.Session != nil:
		kind, v = kindSession, l.Session
	case l.Dead != nil:
		kind, v = kindDead, l.Dead
	case l.Duplicate != nil:
		kind, v = kindDuplicate, l.Duplicate
	default:
		kind, v = kindSummary, l.Summary
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("sim: write the truth: %w", err)
	}
	b.WriteString(`{"kind":"` + kind + `",`)
	b.Write(text[1:])
	b.WriteByte('\n')
	return nil
}

// ParseLine reads one line of a truth.
func ParseLine(text []byte) (Line, error) {
	var k struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return Line{}, err
	}
	var l Line
	var v any
	switch k.Kind {
	case kindHeader:
		l.Header = new(Header)
		v = l.Header
	case kindSession:
		l.Session = new(Session)
		v = l.Session
	case kindDead:
		l.Dead = new(Dead)
		v = l.Dead
	case kindDuplicate:
		l.Duplicate = new(Position)
		v = l.Duplicate
	case kindSummary:
		l.Summary = new(Summary)
		v = l.Summary
	default:
		return Line{}, fmt.Errorf("unknown kind %q", k.Kind)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return Line{}, err
	}
	switch {
	case l.Session != nil && (len(l.Session.Origins) == 0 || l.Session.SessionID == ""):
		return Line{}, errors.New("a session without id or origin")
	case l.Header != nil:
		if err := checkVersion(l.Header.Version); err != nil {
			return Line{}, err
		}
	case l.Summary != nil:
		l.Summary.init()
	}
	return l, nil
}

// TruthFile is the path of a truth on disk.
type TruthFile string

// Each implements Source.
func (f TruthFile) Each(yield func(Line) error) error {
	file, err := os.Open(string(f))
	if err != nil {
		return fmt.Errorf("sim: read the truth: %w", err)
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 1<<20)
	last := Line{}
	for n := 1; ; n++ {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			break
		}
		if errors.Is(err, io.EOF) { // a line without its end: the simulator was killed while writing
			return fmt.Errorf("%s:%d: %w", f, n, ErrUnfinished)
		}
		if err != nil {
			return fmt.Errorf("sim: read the truth: %w", err)
		}
		if last.Summary != nil {
			return fmt.Errorf("%s:%d: a line after the summary", f, n)
		}
		if last, err = ParseLine(text); err != nil {
			return fmt.Errorf("%s:%d: not a line of a truth: %w", f, n, err)
		}
		if n == 1 && last.Header == nil {
			return fmt.Errorf("%s: not a truth: it does not begin with a header", f)
		}
		if err := yield(last); err != nil {
			return err
		}
	}
	if last.Summary == nil {
		return fmt.Errorf("%s: %w", f, ErrUnfinished)
	}
	return nil
}
