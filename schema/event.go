package schema

import (
	"deckle/event"
	"deckle/schema/level"
)

// Events are the columns of events (Delta) that follow from a record, in their order. An Optional column is null where
// the text is empty. The sink adds batch_id and event_date.
var Events = []Column[event.Item]{
	{Name: "event_id", Kind: UUID, Field: Field[event.Item]{
		text: func(it *event.Item) string {
			if it.EventID != "" {
				return it.EventID
			}
			return it.ID.String()
		},
	}},
	{Name: "session_id", Kind: Text, Field: At(func(it *event.Item) *string { return &it.SessionID })},
	{Name: "user_id", Kind: Uint64, Signed: true, Field: At(func(it *event.Item) *uint64 { return &it.UserID })},
	{Name: "event_type", Kind: Few, Field: Field[event.Item]{
		text:    func(it *event.Item) string { return eventType(it.Type, it.TypeName) },
		setText: func(it *event.Item, name string) { it.Type, it.TypeName = parseType(name) },
	}},
	{Name: "timestamp", Kind: Seconds, Field: At(func(it *event.Item) *int64 { return &it.Timestamp })},
	optional("brand", Few, func(it *event.Item) *string { return &it.Brand }),
	optional("category", Few, func(it *event.Item) *string { return &it.Category }),
	optional("article_id", Text, func(it *event.Item) *string { return &it.ArticleID }),
	optional("article_title", Text, func(it *event.Item) *string { return &it.ArticleTitle }),
	optional("article_type", Few, func(it *event.Item) *string { return &it.ArticleType }),
	optional("page_url", Text, func(it *event.Item) *string { return &it.PageURL }),
	optional("referrer", Repeated, func(it *event.Item) *string { return &it.Referrer }),
	optional("device_type", Few, func(it *event.Item) *string { return &it.DeviceType }),
	optional("device_os", Few, func(it *event.Item) *string { return &it.DeviceOS }),
	optional("browser", Few, func(it *event.Item) *string { return &it.Browser }),
	optional("country", Few, func(it *event.Item) *string { return &it.Country }),
	optional("city", Repeated, func(it *event.Item) *string { return &it.City }),
	optional("timezone", Few, func(it *event.Item) *string { return &it.Timezone }),
	optional("subscription_tier", Few, func(it *event.Item) *string { return &it.SubscriptionTier }),
	optional("user_segment", Few, func(it *event.Item) *string { return &it.UserSegment }),
	optional("engagement_metrics", JSON, func(it *event.Item) *string { return &it.EngagementMetrics }),
	optional("metadata", JSON, func(it *event.Item) *string { return &it.Metadata }),
	optional("extra", JSON, func(it *event.Item) *string { return &it.Extra }),
	{Name: "kafka_partition", Kind: Int32, Field: At(func(it *event.Item) *int32 { return &it.Partition })},
	{Name: "kafka_offset", Kind: Int64, Field: At(func(it *event.Item) *int64 { return &it.Offset })},
	{Name: "kafka_timestamp", Kind: KafkaMillis, KnownSince: level.Real,
		Known: &Field[event.Item]{number: func(it *event.Item) uint64 {
			if it.KafkaTimestamp == event.NoKafkaTime {
				return 0
			}
			return 1
		}},
		Field: At(func(it *event.Item) *int64 { return &it.KafkaTimestamp })},

	{Name: "user_key", Kind: Text, Since: level.Real, Optional: true,
		Field: At(func(it *event.Item) *string { return &it.UserKey })},
}

func optional(name string, kind Kind, at func(*event.Item) *string) Column[event.Item] {
	return Column[event.Item]{Name: name, Kind: kind, Optional: true, Field: At(at)}
}
