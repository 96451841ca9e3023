package sim

// brand is one of the publisher's titles. A country that is listed twice is twice as likely.
type brand struct {
	name       string
	categories []string
	types      []string
	countries  []string
}

var brands = []brand{
	{"bild", []string{"politics", "crime", "lifestyle", "entertainment", "sports"},
		[]string{"news", "opinion", "gallery", "video"}, []string{"DE", "DE", "AT", "CH"}},
	{"welt", []string{"opinion", "technology", "business", "culture", "politics"},
		[]string{"news", "interview", "feature", "analysis"}, []string{"DE", "DE", "DE", "AT", "CH"}},
	{"business_insider", []string{"careers", "business", "finance", "markets", "tech"},
		[]string{"news", "feature", "listicle", "analysis"}, []string{"US", "UK", "DE", "FR", "AU"}},
	{"politico", []string{"white-house", "policy", "congress", "politics", "elections"},
		[]string{"news", "briefing", "analysis", "live-blog"}, []string{"US", "US", "US", "EU"}},
	{"sport_bild", []string{"basketball", "olympics", "football", "tennis", "transfer"},
		[]string{"news", "match-report", "interview", "analysis"}, []string{"DE", "DE", "AT", "CH", "EU"}},
}

type country struct {
	timezone, language string
	cities             []string
}

var countries = map[string]country{
	"DE": {"Europe/Berlin", "de-DE", []string{"Berlin", "Hamburg", "Munich", "Cologne", "Frankfurt"}},
	"AT": {"Europe/Vienna", "de-AT", []string{"Vienna", "Graz", "Salzburg", "Linz"}},
	"CH": {"Europe/Zurich", "de-CH", []string{"Zurich", "Geneva", "Bern", "Basel"}},
	"UK": {"Europe/London", "en-GB", []string{"London", "Manchester", "Edinburgh"}},
	"FR": {"Europe/Paris", "fr-FR", []string{"Paris", "Lyon", "Marseille"}},
	"AU": {"Australia/Sydney", "en-AU", []string{"Sydney", "Newcastle"}},
	"US": {"America/New_York", "en-US", []string{"New York", "Washington DC", "Boston", "Miami"}},
	"EU": {"Europe/Brussels", "en-GB", []string{"Brussels", "Luxembourg", "Strasbourg"}},
}

// titles of the categories that have their own; all others are "News Article".
var titles = map[string][]string{
	"politics": {"Breaking: Major Policy Shift Announced", "Election Results: Key Races to Watch",
		"Analysis: What This Means for Voters", "Exclusive: Interview with Key Decision Maker"},
	"elections": {"Election Results: Key Races to Watch", "Analysis: What This Means for Voters"},
	"business": {"Market Update: Stocks Surge", "Economic Impact: What Experts Say",
		"CEO Interview: Company Strategy Revealed", "Tech IPO: Breaking Records"},
	"markets": {"Market Update: Stocks Surge", "Was der „Hüter der Währung“ jetzt plant – und was nicht"},
	"tech": {"New AI Breakthrough Announced", "Security Alert: Important Update",
		"Innovation Spotlight: Emerging Technology"},
	"technology": {"Product Launch: What to Expect", "New AI Breakthrough Announced"},
	"entertainment": {"Exclusive: Celebrity Interview", "TV Series Premiere: First Impressions",
		"Movie Review: Critics Weigh In"},
	"sports": {"Match Report: Dramatic Win", "Championship Preview: Everything You Need to Know",
		"Köln schlägt Düsseldorf 3:2"},
	"football": {"Match Report: \"Dramatic\" Win", "Post-Match Analysis: Key Takeaways"},
}

type device struct {
	name        string
	os          []string
	browsers    []string
	resolutions []string
}

var screens = []string{"1920x1080", "1366x768", "1440x900", "2560x1440"}

var devices = []device{
	{"mobile", []string{"iOS", "Android"}, []string{"Safari", "Chrome", "Firefox"},
		[]string{"375x667", "414x896", "390x844", "360x640"}},
	{"desktop", []string{"Windows", "macOS", "Linux"}, []string{"Chrome", "Firefox", "Edge", "Safari", "Opera"},
		screens},
	{"tablet", []string{"iPadOS", "Android", "Windows"}, []string{"Safari", "Chrome", "Edge"},
		[]string{"768x1024", "834x1194", "810x1080"}},
	{"smart_tv", []string{"Unknown"}, []string{"Chrome", "Opera"}, screens},
	{"app", []string{"Unknown"}, []string{"Chrome", "Safari", "Firefox"}, screens},
}

// deviceOf spreads sessions over devices: half mobile, a third desktop.
var deviceOf = []int{0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4}

var (
	tiers    = []string{"free", "free", "free", "free", "free", "premium", "premium", "premium", "pro", "enterprise"}
	segments = []string{"casual", "casual", "casual", "returning", "returning", "engaged", "engaged", "new_visitor",
		"power_user", "subscriber"}
	referrers = []string{"google", "google", "direct", "direct", "facebook", "twitter", "linkedin", "reddit", "bing",
		"newsletter", "internal"}

	adPositions  = []string{"header", "footer", "sidebar", "in-article"}
	adCategories = []string{"automotive", "finance", "retail", "tech"}
	queries      = []string{"weather", "election results", "sports news", "stock market", "tech review",
		"business update"}
	newsletters = []string{"breaking_news", "weekly_summary", "daily_digest"}
	prompts     = []string{"inline", "modal", "banner"}
	rates       = []string{"0.5", "1.0", "1.25", "1.5", "2.0"}
)

// Weights are the shares of the counted event types, in per cent.
var Weights = []struct {
	Type    string
	Percent int
}{
	{"article_view", 60}, {"article_click", 15}, {"video_play", 5}, {"newsletter_signup", 2},
	{"subscription_prompt", 3}, {"ad_click", 5}, {"search", 5}, {"navigation", 5},
}

// typeOf maps 0..99 to an event type.
var typeOf = func() (t [100]string) {
	i := 0
	for _, w := range Weights {
		for range w.Percent {
			t[i] = w.Type
			i++
		}
	}
	return t
}()
