package node

import (
	"context"
	"fmt"
	"time"

	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
	"deckle/sinks/delta/store"
)

// supportCommits is how many of the newest commits of each table a support bundle has.
const supportCommits = 20

// lakeCommit is a commit of a Delta table without what may be personal: statistics, partition values, paths, and the
// parameters of an operation, which may have a predicate.
type lakeCommit struct {
	Version   int64            `json:"version"`
	At        time.Time        `json:"at"` // by the writer's clock
	Operation string           `json:"operation"`
	Engine    string           `json:"engine"`
	Txns      map[string]int64 `json:"txns,omitempty"`
	Adds      int              `json:"adds"`
	AddBytes  int64            `json:"add_bytes"`
	Removes   int              `json:"removes"`
	Hidden    int64            `json:"hidden_rows,omitempty"` // by the deletion vectors of the files that are added
	Protocol  bool             `json:"protocol,omitempty"`    // it changes the protocol
	Metadata  bool             `json:"metadata,omitempty"`    // it changes properties or columns
}

// lakeCommits are the newest commits of a table as this node knows them, the newest first, or why there are none.
type lakeCommits struct {
	Version int64        `json:"version"`
	Error   string       `json:"error,omitempty"`
	Commits []lakeCommit `json:"commits"`
}

// commits returns the newest commits of both Delta tables, by table; nil if none are open here.
func (n *Node) commits(ctx context.Context) map[string]*lakeCommits {
	if n.delta == nil || n.lake == nil {
		return nil
	}
	out := map[string]*lakeCommits{}
	st, storeErr := n.lake.store()
	if storeErr == nil {
		st = store.WithTimeouts(st, 5*time.Second)
	}
	for _, table := range []string{"events", "sessions"} {
		log, _ := n.delta.committer(table)
		if log == nil {
			continue
		}
		t := &lakeCommits{Version: -1, Commits: []lakeCommit{}}
		log.View(func(s *deltalog.Snapshot) { t.Version = s.Version })
		out[table] = t
		if storeErr != nil {
			t.Error = storeErr.Error()
			continue
		}
		for v := t.Version; v >= 0 && v > t.Version-supportCommits; v-- {
			key := fmt.Sprintf("%s/_delta_log/%020d.json", table, v)
			data, err := st.Get(ctx, key)
			if err != nil {
				t.Error = err.Error()
				break
			}
			c, err := history.ParseCommit(key, v, data)
			if err != nil {
				t.Error = err.Error()
				break
			}
			t.Commits = append(t.Commits, shortly(c))
		}
	}
	return out
}

func shortly(c *history.Commit) lakeCommit {
	s := lakeCommit{Version: c.Version, Adds: len(c.Adds), Removes: len(c.Removes), Protocol: c.Protocol != nil,
		Metadata: c.Metadata != nil, Txns: map[string]int64{}}
	if c.Info != nil {
		s.At, s.Operation, s.Engine = time.UnixMilli(c.Info.Timestamp).UTC(), c.Info.Operation, c.Info.Engine
	}
	for _, t := range c.Txns {
		s.Txns[t.AppID] = t.Version
	}
	for i := range c.Adds {
		s.AddBytes += c.Adds[i].Size
		if v := c.Adds[i].Vector; v != nil {
			s.Hidden += v.Cardinality
		}
	}
	return s
}
