package demo

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"deckle/node/config"
	"deckle/sim"
)

// Options say what the demo runs. The zero value of a field means its default.
type Options struct {
	For           time.Duration // how long records are produced; 0: until ctx ends
	Rate          float64       // records per second; default 2000
	Nodes         int           // 1 or 3; default 3
	Shards        int           // default 6, or 1 on a single node
	Sessions      int           // live at once; default 2000, fewer at a low rate
	Dir           string        // default ./deckle-demo
	Seed          uint64        // default: drawn from the clock
	FlushInterval time.Duration // default 10s
	DrainTimeout  time.Duration // default 60s plus three flush intervals
	Faults        *sim.Faults   // default sim.DefaultFaults
	HTTP          string        // address of the page; default 127.0.0.1:8080, another port if that is taken

	Brokers    []string           // a real Kafka instead of the embedded broker
	S3         *config.S3         // instead of local files; Prefix gets the run's name added
	ClickHouse *config.ClickHouse // Database gets the run's name added if it is empty

	Live     io.Writer        // live figures; default none
	LiveTTY  bool             // Live is a terminal: a block is refreshed instead of a line every few seconds
	Now      func() time.Time // default time.Now
	OnListen func(url string) // called once the page can be read
}

func (o Options) complete() (Options, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Live == nil {
		o.Live = io.Discard
	}
	if o.Faults == nil {
		f := sim.DefaultFaults()
		o.Faults = &f
	}
	o.Rate = cmp.Or(o.Rate, 2000)
	o.Nodes = cmp.Or(o.Nodes, 3)
	o.Dir = cmp.Or(o.Dir, "deckle-demo")
	o.Seed = cmp.Or(o.Seed, uint64(o.Now().UnixNano()))
	o.FlushInterval = cmp.Or(o.FlushInterval, 10*time.Second)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, time.Minute+3*o.FlushInterval)
	o.HTTP = cmp.Or(o.HTTP, "127.0.0.1:8080")
	if o.Shards == 0 {
		o.Shards = 6
		if o.Nodes == 1 {
			o.Shards = 1
		}
	}
	if o.Sessions == 0 {
		o.Sessions = int(min(2000, max(20, o.Rate/2)))
	}
	var errs []error
	if o.Nodes != 1 && o.Nodes != 3 {
		errs = append(errs, fmt.Errorf("nodes: %d: a cluster has one or three nodes", o.Nodes))
	}
	if o.Shards < 1 || o.Shards > 64 {
		errs = append(errs, fmt.Errorf("shards: %d: the demo runs 1 to 64", o.Shards))
	}
	if !(o.Rate > 0) || math.IsInf(o.Rate, 0) {
		errs = append(errs, fmt.Errorf("rate: %v: give records a second, more than 0", o.Rate))
	}
	if o.For < 0 || o.FlushInterval < 100*time.Millisecond || o.DrainTimeout < 0 {
		errs = append(errs, errors.New("for and drain-timeout must not be negative, flush-interval not below 100ms"))
	}
	return o, errors.Join(errs...)
}
