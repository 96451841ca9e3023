package event

import "fmt"

// Type is the kind of an event. The numeric values are part of the encodings and never change.
type Type uint8

// The event types of docs/schema.md. A new one takes the next number.
const (
	TypeInvalid Type = iota
	ArticleView
	ArticleClick
	VideoPlay
	NewsletterSignup
	SubscriptionPrompt
	AdClick
	Search
	Navigation
	SessionEnd
	// Other is an event of a type that docs/schema.md does not name. Its name in JSON is Event.TypeName.
	Other
	// NumTypes is one more than the greatest type.
	NumTypes
)

// types are the event types: the name in JSON, and whether the events count in their session.
var types = [NumTypes]struct {
	name    string
	counted bool
}{
	TypeInvalid:        {"invalid", false},
	ArticleView:        {"article_view", true},
	ArticleClick:       {"article_click", true},
	VideoPlay:          {"video_play", true},
	NewsletterSignup:   {"newsletter_signup", true},
	SubscriptionPrompt: {"subscription_prompt", true},
	AdClick:            {"ad_click", true},
	Search:             {"search", true},
	Navigation:         {"navigation", true},
	SessionEnd:         {"session_end", false},
	Other:              {"other", true},
}

// Counted are the types whose events count and have a column with the number of them, ascending. A new one comes last,
// because images of sessions hold the counts in this order.
var Counted = func() (counted []Type) {
	for t := range NumTypes {
		if types[t].counted {
			counted = append(counted, t)
		}
	}
	return counted
}()

// String returns the type's name in JSON.
func (t Type) String() string {
	if t < NumTypes {
		return types[t].name
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// Valid says whether t is one of the types of docs/schema.md, or Other.
func (t Type) Valid() bool { return t > TypeInvalid && t < NumTypes }

// Counts says whether events of the type count in their session.
func (t Type) Counts() bool { return t < NumTypes && types[t].counted }

// typesByLength are the types by the length of their names: few names have the same length, so that a name is compared
// with few others.
var typesByLength = func() (by [32][]Type) {
	for t := ArticleView; t < Other; t++ {
		n := len(types[t].name)
		by[n] = append(by[n], t)
	}
	return by
}()

// ParseType returns the type that has the name s in JSON, and false if there is none ("invalid" and "other" name no
// type).
func ParseType(s string) (Type, bool) {
	if len(s) < len(typesByLength) {
		for _, t := range typesByLength[len(s)] {
			if types[t].name == s {
				return t, true
			}
		}
	}
	return TypeInvalid, false
}
