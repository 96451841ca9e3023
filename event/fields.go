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

var fieldNames = [numFields]string{
	"event_id", "session_id", "user_id", "event_type", "timestamp", "brand", "category", "article_id", "article_title",
	"article_type", "page_url", "referrer", "device_type", "device_os", "browser", "country", "city", "timezone",
	"subscription_tier", "user_segment", "engagement_metrics", "metadata",
}

// quotedNames are the fields' names as they usually stand in JSON.
var quotedNames = func() (q [numFields]string) {
	for f, name := range fieldNames {
		q[f] = `"` + name + `"`
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
	for f, name := range fieldNames {
		m[name] = field(f)
	}
	return m
}()

// textOffset is where an optional text field lies in an Event.
var textOffset = [numFields]uintptr{
	fieldBrand:            unsafe.Offsetof(Event{}.Brand),
	fieldCategory:         unsafe.Offsetof(Event{}.Category),
	fieldArticleID:        unsafe.Offsetof(Event{}.ArticleID),
	fieldArticleTitle:     unsafe.Offsetof(Event{}.ArticleTitle),
	fieldArticleType:      unsafe.Offsetof(Event{}.ArticleType),
	fieldPageURL:          unsafe.Offsetof(Event{}.PageURL),
	fieldReferrer:         unsafe.Offsetof(Event{}.Referrer),
	fieldDeviceType:       unsafe.Offsetof(Event{}.DeviceType),
	fieldDeviceOS:         unsafe.Offsetof(Event{}.DeviceOS),
	fieldBrowser:          unsafe.Offsetof(Event{}.Browser),
	fieldCountry:          unsafe.Offsetof(Event{}.Country),
	fieldCity:             unsafe.Offsetof(Event{}.City),
	fieldTimezone:         unsafe.Offsetof(Event{}.Timezone),
	fieldSubscriptionTier: unsafe.Offsetof(Event{}.SubscriptionTier),
	fieldUserSegment:      unsafe.Offsetof(Event{}.UserSegment),
}

// text is the address of the optional text field f (fieldBrand to fieldUserSegment) of e.
func (e *Event) text(f field) *string {
	return (*string)(unsafe.Add(unsafe.Pointer(e), textOffset[f]))
}
