package event

import "unsafe"

// ID is an event's UUID in binary form, or the hash of an event_id that is no UUID (HashID).
type ID [16]byte

// Event is one decoded reader event. Its strings may alias the buffer that it was decoded from: a string that is kept
// longer than that buffer must be cloned.
type Event struct {
	ID        ID
	SessionID string // 1 to MaxSessionID bytes
	// UserID is at most 2^63-1 for a user who is known by a number, the UserHash of UserKey for one who is known by a
	// text, and 0 where the user is unknown. (Rules of FormsFirst know 0 as a user, and no texts.)
	UserID uint64
	Type   Type
	// Progress is read_progress of an article_view, held to 0..100, and Complete its is_article_complete; 0 and false
	// for other types, and by rules of FormsFirst.
	Progress uint8
	Complete bool
	// MetricsOmitted says that EngagementMetrics is longer than Rules.MaxMetricsBytes: a batch does not carry it.
	MetricsOmitted bool
	Timestamp      int64 // Unix seconds

	Brand, Category, ArticleID, ArticleTitle, ArticleType, PageURL, Referrer string
	DeviceType, DeviceOS, Browser, Country, City, Timezone                   string
	SubscriptionTier, UserSegment                                            string

	// EventID is the text of an event_id that is no UUID, "" for a UUID. A batch does not carry it.
	EventID string
	// UserKey is the text of a user_id that is no number, 1 to MaxUserKey bytes; "" for a number or none.
	UserKey string
	// TypeName is the event_type of an event of type Other, cut to at most MaxTypeName bytes; "" for other types.
	TypeName string

	// JSON texts of objects as they were sent, or as NormalizeJSON makes them; "" when the field is missing, null or
	// "".
	EngagementMetrics, Metadata string
	// Extra is a JSON object of the fields that the schema does not name; "" when there is none.
	Extra string

	// Measure is the one integer that the event's type contributes to its session, computed from EngagementMetrics by
	// the rule of docs/schema.md: whole seconds of time_on_page (article_view) or of playback_position (video_play),
	// millionths of ad_revenue (ad_click); 0 for other types.
	Measure uint64
	// Scroll is scroll_depth of an article_view, held to 0..100; 0 for other types.
	Scroll uint8
}

// MaxTypeName is the length in bytes to which Event.TypeName is cut, between two characters.
const MaxTypeName = 64

// field is a field of the schema, in the order of docs/schema.md, which decides which of several faults of one class
// is reported.
type field uint8

const (
	fieldEventID field = iota
	fieldSessionID
	fieldUserID
	fieldEventType
	fieldTimestamp
	fieldBrand
	fieldCategory
	fieldArticleID
	fieldArticleTitle
	fieldArticleType
	fieldPageURL
	fieldReferrer
	fieldDeviceType
	fieldDeviceOS
	fieldBrowser
	fieldCountry
	fieldCity
	fieldTimezone
	fieldSubscriptionTier
	fieldUserSegment
	fieldEngagementMetrics
	fieldMetadata
	numFields
	// fieldExtra stands for every field that the schema does not name.
	fieldExtra = numFields
)

const lastRequired = fieldTimestamp

// fields are the fields of the schema. An optional text field stands in an Event at its offset; the decoder has
// separate code for each of the others.
var fields = [numFields]struct {
	name string
	text uintptr
}{
	fieldEventID:           {name: "event_id"},
	fieldSessionID:         {name: "session_id"},
	fieldUserID:            {name: "user_id"},
	fieldEventType:         {name: "event_type"},
	fieldTimestamp:         {name: "timestamp"},
	fieldBrand:             {"brand", unsafe.Offsetof(Event{}.Brand)},
	fieldCategory:          {"category", unsafe.Offsetof(Event{}.Category)},
	fieldArticleID:         {"article_id", unsafe.Offsetof(Event{}.ArticleID)},
	fieldArticleTitle:      {"article_title", unsafe.Offsetof(Event{}.ArticleTitle)},
	fieldArticleType:       {"article_type", unsafe.Offsetof(Event{}.ArticleType)},
	fieldPageURL:           {"page_url", unsafe.Offsetof(Event{}.PageURL)},
	fieldReferrer:          {"referrer", unsafe.Offsetof(Event{}.Referrer)},
	fieldDeviceType:        {"device_type", unsafe.Offsetof(Event{}.DeviceType)},
	fieldDeviceOS:          {"device_os", unsafe.Offsetof(Event{}.DeviceOS)},
	fieldBrowser:           {"browser", unsafe.Offsetof(Event{}.Browser)},
	fieldCountry:           {"country", unsafe.Offsetof(Event{}.Country)},
	fieldCity:              {"city", unsafe.Offsetof(Event{}.City)},
	fieldTimezone:          {"timezone", unsafe.Offsetof(Event{}.Timezone)},
	fieldSubscriptionTier:  {"subscription_tier", unsafe.Offsetof(Event{}.SubscriptionTier)},
	fieldUserSegment:       {"user_segment", unsafe.Offsetof(Event{}.UserSegment)},
	fieldEngagementMetrics: {name: "engagement_metrics"},
	fieldMetadata:          {name: "metadata"},
}

// quotedNames are the fields' names as they usually stand in JSON.
var quotedNames = func() (q [numFields]string) {
	for f := range fields {
		q[f] = `"` + fields[f].name + `"`
	}
	return q
}()

// fieldByName returns fieldExtra for a name that is not in the schema.
func fieldByName(name string) field {
	if f, ok := fieldsByName[name]; ok {
		return f
	}
	return fieldExtra
}

var fieldsByName = func() map[string]field {
	m := make(map[string]field, numFields)
	for f := range fields {
		m[fields[f].name] = field(f)
	}
	return m
}()

// text is the address of the optional text field f (fieldBrand to fieldUserSegment) of e.
func (e *Event) text(f field) *string {
	return (*string)(unsafe.Add(unsafe.Pointer(e), fields[f].text))
}
