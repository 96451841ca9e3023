package schema

import (
	"deckle/event"
	"deckle/schema/level"
)

// PageRow is one row of page_analytics, without the values that it takes from its session.
type PageRow struct {
	ArticleID, ArticleTitle, Category string
	Type                              event.Type
	TypeName                          string // of type event.Other
	Count                             uint32
}

// PageColumn is a column of page_analytics. Its value stands in the session's row or in the page's: exactly one of
// Session and Page is set.
type PageColumn struct {
	Name    string
	Kind    Kind
	Comment string
	Since   level.Level // as of a Column
	Session *Column[SessionRow]
	Page    *Column[PageRow]
}

// Pages are the columns of page_analytics, in their order.
var Pages = []PageColumn{
	ofSession("session_id", "The reader's session, as the events name it"),
	ofSession("origin", "partition/offset of the record that opened the session's row; never changes"),
	ofPage("article_id", Text, "Article, never empty", At(func(p *PageRow) *string { return &p.ArticleID })),
	ofPage("event_type", Few, "Type of the counted events", Field[PageRow]{
		text:    func(p *PageRow) string { return eventType(p.Type, p.TypeName) },
		setText: func(p *PageRow, name string) { p.Type, p.TypeName = parseType(name) },
	}),
	ofPage("visit_count", Uint32, "Counted events of the session with this article and type",
		At(func(p *PageRow) *uint32 { return &p.Count })),
	ofSession("user_id", "User of the session"),
	ofPage("article_title", Text, "article_title of the first such event",
		At(func(p *PageRow) *string { return &p.ArticleTitle })),
	ofPage("category", Few, "category of the first such event", At(func(p *PageRow) *string { return &p.Category })),
	ofSession("session_date", "UTC day of the record that opened the session's row; never changes"),
}

// eventType is the event_type of the tables: the type's name, or the name that came with an event of type Other.
func eventType(t event.Type, name string) string {
	if t == event.Other {
		return name
	}
	return t.String()
}

// parseType is the inverse of eventType.
func parseType(text string) (t event.Type, name string) {
	if t, ok := event.ParseType(text); ok || text == "" {
		return t, ""
	}
	return event.Other, text
}

func ofSession(name, comment string) PageColumn {
	c := Named(Sessions, name)
	return PageColumn{Name: name, Kind: c.Kind, Comment: comment, Since: c.Since, Session: c}
}

func ofPage(name string, kind Kind, comment string, f Field[PageRow]) PageColumn {
	return PageColumn{Name: name, Kind: kind, Comment: comment,
		Page: &Column[PageRow]{Name: name, Kind: kind, Comment: comment, Field: f}}
}
