package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/sim/testworld/badbatch"
)

// level2 waits until the shards have the level at which offsets can be given up.
func (c *cluster) level2(t *testing.T) {
	nodetest.Until(t, "level 2", func() bool {
		_, n, s := c.leader(0)
		return n != nil && s.State.Level >= level.Real
	})
}

// The log of a partition begins behind the next offset (field report F07). It stops; the text names the command; the
// offsets are given up through the HTTP interface; it goes on, also after a restart, and the raw events have the rest.
func TestLostOffsetsAreGivenUp(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	c := newCluster(t, b, 1, nil)
	c.start(0)
	for i := range 10 {
		b.Produce(nodetest.Record(int32(i%2), fmt.Sprint("s", i%2), i))
	}
	c.level2(t)
	c.checkExact(t, 10, 0, 0)
	c.stop(0)
	for i := 10; i < 30; i++ {
		b.Produce(nodetest.Record(int32(i%2), fmt.Sprint("s", i%2), i))
	}
	if err := b.DeleteRecords(nodetest.Topic, 1, 9); err != nil {
		t.Fatal(err)
	}
	n := c.start(0)
	nodetest.Until(t, "stopped", func() bool {
		_, _, s := c.leader(0)
		return strings.Contains(s.Stopped["partition 1"], "deckle partitions skip --partition 1 --to ")
	})
	ctx := nodetest.Context(t)
	// What has no right to be given up: what is not there yet, other offsets than the next, partitions that are read.
	for name, cmd := range map[string]status.Command{
		"past the end":          {Partition: 1, From: 5, To: 16},
		"from another offset":   {Partition: 1, From: 4, To: 9},
		"backwards":             {Partition: 1, From: 5, To: 4},
		"a partition that runs": {Partition: 0, From: 15, To: 15},
		"resume what runs":      {Partition: 0, Resume: true},
		"an unknown partition":  {Partition: 7, From: 0, To: 0},
	} {
		if _, err := n.Command(ctx, cmd); !errors.Is(err, status.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.Command(ctx, status.Command{Partition: 1, Resume: true}); err != nil {
		t.Error(err)
	}
	nodetest.Until(t, "what was tried again has stopped again", func() bool {
		_, _, s := c.leader(0)
		return s.Stopped["partition 1"] != ""
	})
	srv := httptest.NewServer(n.Handler())
	defer srv.Close()
	resp, err := srv.Client().Post(srv.URL+"/api/v1/partitions/skip", "application/json",
		strings.NewReader(`{"partition":1,"from":5,"to":9,"reason":"retention"}`))
	if err != nil {
		t.Fatal(err)
	}
	var out status.Outcome
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&out), resp.Body.Close()); err != nil ||
		resp.StatusCode != http.StatusOK || out != (status.Outcome{Next: 9, Skipped: 4}) {
		t.Fatalf("%d, %+v, %v", resp.StatusCode, out, err)
	}
	whole := func() bool { return c.table.countEvents() == 26 }
	nodetest.Until(t, "it goes on, and the raw events have the rest", whole)
	_, _, s := c.leader(0)
	g := s.State.Gaps[1]
	if g.Count != 1 || g.Offsets != 4 || g.Last[0].Reason != "retention" || g.Last[0].By != "n0" ||
		g.Last[0].From != 5 {
		t.Errorf("gaps %+v", g)
	}
	c.stop(0)
	c.start(0)
	b.Produce(nodetest.Record(1, "s1", 30))
	nodetest.Until(t, "after a restart", func() bool { return c.table.countEvents() == 27 })
	_, _, s = c.leader(0)
	if len(s.Stopped) > 0 || s.State.Gaps[1].Offsets != 4 {
		t.Errorf("stopped %v, gaps %v", s.Stopped, s.State.Gaps)
	}
}

// through lets the connections of a cluster's clients pass the batches that cannot be read.
func (c *cluster) through(broken *badbatch.Broken) {
	c.kafkaOpts = append(c.kafkaOpts, kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return broken.Conn(conn), nil
	}))
}

// A batch that nobody can read is given up on a node that does not lead the shard, and the command is passed on. The
// raw events of the epoch are read again from Kafka, since no buffer has them: with the bad batch between two ranges.
func TestBadBatchIsGivenUp(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 2)
	var broken badbatch.Broken
	c := newCluster(t, b, 3, nil)
	c.through(&broken)
	for i := range 3 {
		c.start(i)
	}
	c.level2(t)
	broken.Spoil(0, 3, badbatch.Flip)
	for i := range 6 {
		b.Produce(nodetest.Record(0, "a", i))
	}
	nodetest.Until(t, "the partition is failing", func() bool {
		_, _, s := c.leader(0)
		return strings.HasPrefix(s.Failing["partition 0"], "offset 3: ")
	})
	lead, _, _ := c.leader(0)
	other := c.nodes[(lead+1)%3]
	cmd := status.Command{Partition: 0, From: 3, To: 4, Reason: "flipped bit"}
	nodetest.Until(t, "given up", func() bool {
		out, err := other.Command(nodetest.Context(t), cmd)
		return err == nil && out == (status.Outcome{Next: 4, Skipped: 1})
	})
	nodetest.Until(t, "the rest", func() bool { return c.table.countEvents() == 5 })
	_, err := other.Command(nodetest.Context(t), cmd)
	if !errors.Is(err, status.ErrRefused) || !strings.Contains(err.Error(), "neither stopped nor failing") {
		t.Errorf("the refusal of another node: %v", err)
	}
	nodetest.Until(t, "every replica has the gap", func() bool {
		for _, n := range c.nodes {
			if g := n.Store(0).Peek().Gaps[0]; g.Offsets != 1 || g.Last[0].By != other.cfg.Node {
				return false
			}
		}
		return true
	})
	v := c.nodes[0].Store(0).Peek()
	if v.Partitions[0].Next != 6 {
		t.Errorf("next %+v", v.Partitions[0])
	}
	buf := new(bytes.Buffer)
	if err := json.NewEncoder(buf).Encode(v.Gaps); err != nil || !strings.Contains(buf.String(), "flipped bit") {
		t.Errorf("%s, %v", buf, err)
	}
}

// Kafka says that it has not got the next offset, and then has: an unclean election, or a restored broker. The operator
// takes the history as it is. Nothing is given up, and what was known of the old one cannot stop the partition again.
func TestNewHistoryIsAccepted(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 1, nil)
	n := c.start(0)
	c.level2(t)
	for i := range 5 {
		b.Produce(nodetest.Record(0, "a", i))
	}
	c.checkExact(t, 5, 0, 0)
	lost := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: nodetest.Topic, Err: kerr.OffsetOutOfRange,
		Count: -1})
	nodetest.Until(t, "stopped", func() bool { _, _, s := c.leader(0); return s.Stopped["partition 0"] != "" })
	lost.Remove()
	if p := n.Store(0).Peek().Partitions[0]; p.LastHash == 0 || p.LeaderEpoch < 0 {
		t.Fatalf("nothing is known of the old history: %+v", p)
	}
	out, err := n.Command(nodetest.Context(t), status.Command{Partition: 0, From: 5, To: 5, Reason: "restored"})
	if err != nil || out != (status.Outcome{Next: 5}) {
		t.Fatalf("%+v, %v", out, err)
	}
	if p := n.Store(0).Peek().Partitions[0]; p.LastHash != 0 || p.LeaderEpoch != -1 || p.Next != 5 {
		t.Errorf("what is known of the old history: %+v", p)
	}
	b.Produce(nodetest.Record(0, "a", 5))
	c.checkExact(t, 6, 0, 0)
	if g := n.Store(0).Peek().Gaps[0]; g.Count != 1 || g.Offsets != 0 {
		t.Errorf("gaps %+v", g)
	}
}
