package state

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// goldenSession is a session that has everything that an image holds.
func goldenSession(t *testing.T) *session {
	t.Helper()
	s := &session{id: "s-1", origin: Position{2, 77}, originDay: 19_675, status: schema.StatusClosed, closing: true,
		revision: 3, revised: 9,
		firstClosed: 5, imageEpoch: 11, createdAt: 1_700_000_123_456, last: 1_700_009_000, deadline: 1_700_010_000,
		ends: 1}
	for i := range 30 {
		it := &event.Item{Partition: 2, Offset: int64(77 + i), Event: event.Event{
			ID: event.ID{byte(i)}, SessionID: "s-1", UserID: uint64(1000 - i),
			Type:      event.ArticleView + event.Type(i%8),
			Timestamp: 1_700_000_000 + int64(i*37%600), Brand: fmt.Sprint("brand", i), Category: "c",
			ArticleID:    fmt.Sprint("a", i%4),
			ArticleTitle: "Title", PageURL: "u", Referrer: "r", DeviceType: "mobile", DeviceOS: "iOS",
			Browser: "Safari", Country: "DE",
			City: "Köln", Timezone: "Europe/Berlin", SubscriptionTier: "free", UserSegment: "loyal",
			EngagementMetrics: `{"n":1}`,
			Measure:           uint64(100 + i), Scroll: uint8(i),
		}}
		s.fold(it, nil)
	}
	s.remember(event.ID{0xff})
	s.rolled = s.contribution()
	return s
}

// TestGoldenImage: replicas compare the bytes of images, so these must be the bytes of the format's first version.
func TestGoldenImage(t *testing.T) {
	s := goldenSession(t)
	image := s.encode(nil, level.First)
	if got, want := fmt.Sprintf("%d %x", len(image), sha256.Sum256(image))[:20], "1564 41efb098875ed00"; got != want {
		t.Errorf("image %s, want %s", got, want)
	}
	back, err := decodeSession(image)
	if err != nil {
		t.Fatal(err)
	}
	if again := back.encode(nil, level.First); string(again) != string(image) {
		t.Errorf("decoded and encoded again: %x, want %x", again, image)
	}
	row, err := new(rowBuilder).build(back, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", *row))
	if got, want := fmt.Sprintf("%x", sum)[:16], "21b2840af55675b9"; got != want {
		t.Errorf("row %s, want %s: %+v", got, want, *row)
	}
}

// TestImagesHoldTheSchema says where a column is missing that package schema has and images do not have.
func TestImagesHoldTheSchema(t *testing.T) {
	want := imageShape{texts: len(schema.FirstTexts), sums: len(schema.MeasureSums), counts: len(event.Counted),
		real: true, opening: true}
	if got := imageShapes[level.Session.Newest()]; got != want {
		t.Errorf("version %d of the session's format holds %+v, package schema declares %+v: "+
			"state/format.go needs a new version",
			level.Session.Newest(), got, want)
	}
	if schema.FirstTexts[0].Name != "brand" {
		t.Error("texts.brand reads the first text of a session, which is not its brand")
	}
	if schema.NumSums != len(schema.MeasureSums) {
		t.Errorf("schema.NumSums is %d of %d sums", schema.NumSums, len(schema.MeasureSums))
	}
	if numRolled != 8 || schema.NumMeasures != 7 {
		t.Errorf("a session's contribution has %d texts and %d measures: "+
			"state/format.go needs a new version of level.Session, and of level.Store",
			numRolled, schema.NumMeasures)
	}
	if len(schema.FirstTexts) > maxTexts {
		t.Errorf("%d texts, there is room for %d", len(schema.FirstTexts), maxTexts)
	}
}
