package schema

import (
	"deckle/event"
	"deckle/schema/level"
)

// Events are the columns of events (Delta) that follow from a record, in their order. An Optional column is null where
// the text is empty. The sink adds EventBatchID and EventDate.
var Events = []Column[event.Item]{
	{Name: "event_id", Kind: UUID, Comment: "Id of the event; one of its own that is no UUID stands as it is",
		Field: Field[event.Item]{
			text: func(it *event.Item) string {
				if it.EventID != "" {
					return it.EventID
				}
				return it.ID.String()
			},
		}},
	{Name: "session_id", Kind: Text, Comment: "The reader's session, as the event names it",
		Field: At(func(it *event.Item) *string { return &it.SessionID })},
	{Name: "user_id", Kind: Uint64, Signed: true, Comment: "User of the event; 0 if none is known",
		Field: At(func(it *event.Item) *uint64 { return &it.UserID })},
	{Name: "event_type", Kind: Few, Comment: "What the reader did, as the event names it",
		Field: Field[event.Item]{
			text:    func(it *event.Item) string { return eventType(it.Type, it.TypeName) },
			setText: func(it *event.Item, name string) { it.Type, it.TypeName = parseType(name) },
		}},
	{Name: "timestamp", Kind: Seconds, Comment: "When it happened, by the event",
		Field: At(func(it *event.Item) *int64 { return &it.Timestamp })},
	optional("brand", Few, "Brand",
		func(it *event.Item) *string { return &it.Brand }),
	optional("category", Few, "Category of the article",
		func(it *event.Item) *string { return &it.Category }),
	optional("article_id", Text, "Article",
		func(it *event.Item) *string { return &it.ArticleID }),
	optional("article_title", Text, "Title of the article",
		func(it *event.Item) *string { return &it.ArticleTitle }),
	optional("article_type", Few, "Type of the article",
		func(it *event.Item) *string { return &it.ArticleType }),
	optional("page_url", Text, "Address of the page",
		func(it *event.Item) *string { return &it.PageURL }),
	optional("referrer", Repeated, "Where the reader came from",
		func(it *event.Item) *string { return &it.Referrer }),
	optional("device_type", Few, "Device type",
		func(it *event.Item) *string { return &it.DeviceType }),
	optional("device_os", Few, "Operating system",
		func(it *event.Item) *string { return &it.DeviceOS }),
	optional("browser", Few, "Browser",
		func(it *event.Item) *string { return &it.Browser }),
	optional("country", Few, "Country",
		func(it *event.Item) *string { return &it.Country }),
	optional("city", Repeated, "City",
		func(it *event.Item) *string { return &it.City }),
	optional("timezone", Few, "Time zone, as a name",
		func(it *event.Item) *string { return &it.Timezone }),
	optional("subscription_tier", Few, "Subscription tier",
		func(it *event.Item) *string { return &it.SubscriptionTier }),
	optional("user_segment", Few, "User segment",
		func(it *event.Item) *string { return &it.UserSegment }),
	optional("engagement_metrics", JSON, "What was measured, as a JSON object",
		func(it *event.Item) *string { return &it.EngagementMetrics }),
	optional("metadata", JSON, "The event's metadata, as a JSON object",
		func(it *event.Item) *string { return &it.Metadata }),
	optional("extra", JSON, "Members of the event that Deckle does not know, as a JSON object",
		func(it *event.Item) *string { return &it.Extra }),
	{Name: "kafka_partition", Kind: Int32, Comment: "Partition of the record",
		Field: At(func(it *event.Item) *int32 { return &it.Partition })},
	{Name: "kafka_offset", Kind: Int64, Comment: "Offset of the record: with kafka_partition it tells rows apart",
		Field: At(func(it *event.Item) *int64 { return &it.Offset })},
	{Name: "kafka_timestamp", Kind: KafkaMillis,
		Comment:    "The record's time in Kafka; null if it has none that can be true",
		KnownSince: level.Real,
		Known: &Field[event.Item]{number: func(it *event.Item) uint64 {
			if it.KafkaTimestamp == event.NoKafkaTime {
				return 0
			}
			return 1
		}},
		Field: At(func(it *event.Item) *int64 { return &it.KafkaTimestamp })},

	{Name: "user_key", Kind: Text, Since: level.Real, Optional: true,
		Comment: "User of the event who is known by a text",
		Field:   At(func(it *event.Item) *string { return &it.UserKey })},
}

// EventBatchID and EventDate are the columns of events that the sink adds: of the epoch in which a record was counted,
// and the day of its timestamp, by which the table is partitioned.
var (
	EventBatchID = Column[event.Item]{Name: "batch_id", Kind: Uint64,
		Comment: "Which cut has counted the event: shard × 2^40 + epoch"}
	EventDate = Column[event.Item]{Name: "event_date", Kind: Date, Comment: "Day of timestamp, UTC"}
)

func optional(name string, kind Kind, comment string, at func(*event.Item) *string) Column[event.Item] {
	return Column[event.Item]{Name: name, Kind: kind, Comment: comment, Optional: true, Field: At(at)}
}
