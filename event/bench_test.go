package event

import (
	"encoding/json"
	"fmt"
	"testing"

	"deckle/schema/level"
)

// plainEvent is what one would decode into with encoding/json if strictness did not matter.
type plainEvent struct {
	EventID           string          `json:"event_id"`
	SessionID         string          `json:"session_id"`
	UserID            uint64          `json:"user_id"`
	EventType         string          `json:"event_type"`
	Timestamp         int64           `json:"timestamp"`
	Brand             string          `json:"brand"`
	Category          string          `json:"category"`
	ArticleID         string          `json:"article_id"`
	ArticleTitle      string          `json:"article_title"`
	ArticleType       string          `json:"article_type"`
	PageURL           string          `json:"page_url"`
	Referrer          string          `json:"referrer"`
	DeviceType        string          `json:"device_type"`
	DeviceOS          string          `json:"device_os"`
	Browser           string          `json:"browser"`
	Country           string          `json:"country"`
	City              string          `json:"city"`
	Timezone          string          `json:"timezone"`
	SubscriptionTier  string          `json:"subscription_tier"`
	UserSegment       string          `json:"user_segment"`
	EngagementMetrics json.RawMessage `json:"engagement_metrics"`
	Metadata          json.RawMessage `json:"metadata"`
}

// BenchmarkDecode is the measurement by which the decoder was chosen: ns/op is a record of the sample.
func BenchmarkDecode(b *testing.B) {
	records := sample(b)
	bytes := 0
	for _, r := range records {
		bytes += len(r)
	}
	run := func(name string, one func(b *testing.B, record []byte)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(bytes / len(records)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				one(b, records[i%len(records)])
			}
		})
	}
	rules := DefaultRules()
	first, real := &Decoder{}, &Decoder{Rules: &rules}
	d := real
	var ev Event
	decode := func(b *testing.B, record []byte) {
		if reason, detail := d.Decode(record, sampleKafkaTimestamp, &ev); reason != ReasonNone {
			b.Fatal(reason, detail)
		}
	}
	run("predicting", decode)
	d = first
	run("first", decode)
	d = real
	run("looking-up", func(b *testing.B, record []byte) {
		for i := range d.next {
			d.next[i] = fieldMetadata // a field that follows only one of the others
		}
		decode(b, record)
	})
	run("encoding-json", func(b *testing.B, record []byte) {
		var p plainEvent
		if err := json.Unmarshal(record, &p); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkAppendBatch(b *testing.B) {
	for _, n := range []int{300, 3000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			batch := sampleBatch(b, n, 1)
			var enc []byte
			b.ReportAllocs()
			for b.Loop() {
				enc = AppendBatch(enc[:0], batch, level.Current)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
			b.ReportMetric(float64(len(enc))/float64(n), "B/event")
		})
	}
}

func BenchmarkDecodeBatch(b *testing.B) {
	for _, n := range []int{300, 3000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			enc := AppendBatch(nil, sampleBatch(b, n, 1), level.Current)
			var s BatchScratch
			var batch Batch
			b.ReportAllocs()
			for b.Loop() {
				if err := DecodeBatch(enc, &batch, &s); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
		})
	}
}
