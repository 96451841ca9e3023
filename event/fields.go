package event

import "unsafe"

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

// fields are the fields of the schema. An optional text field lies in an Event at its offset; the others have code of
// their own in the decoder.
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
