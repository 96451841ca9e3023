package cluster

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"deckle/node/config"
	"deckle/sim"
)

// Options of one simulated run. The zero value of a field means that the seed decides.
type Options struct {
	Seed uint64
	// Events is about how many records are produced; default 900 to 1,500.
	Events int64
	// Kinds limits the fault plan to these kinds; nil: all.
	Kinds []string
	// Faults is how many faults the plan has; default 4 to 10. -1: none.
	Faults int
	// Tune changes the nodes' configuration.
	Tune func(cfg *config.Config)
	// LogBytes and CheckpointBytes are small by default: so that logs are shortened and snapshots sent within a run.
	LogBytes, CheckpointBytes int64
	// AuditEvery is how often the logs of the nodes are looked at besides.
	AuditEvery time.Duration
	// LogLevel of the nodes' log in the history; default: warnings.
	LogLevel slog.Level
	// Script, if set, runs in the place of the fault plan, beside the workload.
	Script func(ctx context.Context, w *World) error
	// Workload changes what is produced.
	Workload func(o *sim.Options)
	// NoWorkload leaves the topic to the script, which gives the truth itself, or none.
	NoWorkload bool
	// Partitions of the topic; default 4.
	Partitions int32
	// Purge lets sessions be purged within the run; by default one seed in eight does.
	Purge bool
	// Sealed encrypts the nodes' data folders; by default one seed in three does, unless there is a script.
	Sealed bool
	// Secure gives the nodes TLS; by default one seed in five has it, if it has no script.
	Secure bool
	// Shards of the cluster; by default the seed decides between 1 and 2.
	Shards int
	// Forming, if set, is called before the nodes are started for the first time.
	Forming func(w *World)
	// DiskBytes is the nodes' disk budget, if not 0; smaller than a configuration may set it.
	DiskBytes int64
	// Looks is the longest time between two looks of the oracle; default 5 s. A look costs more, the more the tables
	// hold.
	Looks time.Duration
	// OnFailure, if set, is called with each failure when it is found.
	OnFailure func(failure string)
	// Latency is what a message from one node to another takes. By default none: if question and answer happen at the
	// same instant, most races are possible; and a loop of the Raft library that waits for nothing else keeps virtual
	// time from going on.
	Latency time.Duration
	// BrokerDir is a folder in which the broker keeps its log, so that it can be replaced by an older copy. If it is
	// empty, the broker keeps its log in memory.
	BrokerDir string
	// Quiet is how long the run goes on, in virtual time, after the workload is done and before the drain.
	Quiet time.Duration
	// Beat, if set, counts the virtual seconds of the run while they pass: a slow run can be told from one that stands
	// still.
	Beat *atomic.Int64
}
