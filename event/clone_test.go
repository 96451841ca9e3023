package event

// texts returns the addresses of all texts of an event.
func (e *Event) texts() [22]*string {
	return [...]*string{
		&e.SessionID, &e.Brand, &e.Category, &e.ArticleID, &e.ArticleTitle, &e.ArticleType, &e.PageURL, &e.Referrer,
		&e.DeviceType, &e.DeviceOS, &e.Browser, &e.Country, &e.City, &e.Timezone, &e.SubscriptionTier, &e.UserSegment,
		&e.EngagementMetrics, &e.Metadata, &e.Extra, &e.EventID, &e.UserKey, &e.TypeName,
	}
}

// clone returns a copy that shares no memory with the buffer that e was decoded from. It makes one allocation, which
// lives as long as any text of the copy.
func (e *Event) clone() Event {
	c := *e
	texts := c.texts()
	CloneTexts(texts[:])
	return c
}
