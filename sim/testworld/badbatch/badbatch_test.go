package badbatch

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"deckle/node/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a client makes of each kind of broken batch, and that everything else passes: other tests rest on that.
func TestBrokenBatches(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage Damage
		silent bool
	}{{"flip", Flip, false}, {"codec", Codec, false}, {"packed", Packed, false}, {"magic", Magic, false},
		{"garbage", Garbage, true}} {
		t.Run(c.name, func(t *testing.T) {
			b := nodetest.NewBroker(t, 1)
			for i := range 6 {
				b.Produce(nodetest.Record(0, "s", i)) // a batch each
			}
			var broken Broken
			broken.Spoil(0, 3, c.damage)
			cl, err := kgo.NewClient(append(slices.Clip(b.Opts), kgo.ConsumeTopics(nodetest.Topic),
				kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
					if err != nil {
						return nil, err
					}
					return broken.Conn(conn), nil
				}))...)
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			var got []int64
			var met error
			for deadline := time.Now().Add(2 * time.Second); met == nil && time.Now().Before(deadline); {
				ctx, cancel := context.WithDeadline(t.Context(), deadline)
				fetches := cl.PollFetches(ctx)
				cancel()
				for _, r := range fetches.Records() {
					got = append(got, r.Offset)
				}
				fetches.EachError(func(_ string, p int32, err error) {
					if p >= 0 {
						met = err
					}
				})
			}
			if (met == nil) != c.silent || broken.Met() == 0 {
				t.Errorf("error %v, %d broken batches", met, broken.Met())
			}
			if !slices.Equal(got, []int64{0, 1, 2}) && c.name != "garbage" {
				t.Errorf("offsets %v, want those before the broken batch", got)
			}
		})
	}
}
