package web

import (
	"fmt"
	"net/http"

	"deckle/node/status"
)

// VerbFinalize is the verb of the table of routes and of the audit log.
const VerbFinalize = "upgrade.finalize"

// apiUpgrade is /api/v1/upgrade, by what the nodes have told the one that was asked.
type apiUpgrade struct {
	Level   uint32 `json:"level"`         // the lowest of any shard, 0 while it is not known
	Highest uint32 `json:"level_highest"` // the highest of any shard
	Newest  uint32 `json:"level_newest"`  // the highest that any node's version has
	// WayBack says that versions of level Highest may still take over: no shard has the level of the newest version.
	WayBack bool             `json:"way_back"`
	Holds   []string         `json:"holds"` // why the shards do not have the level Newest; none if they have it
	Nodes   []apiUpgradeNode `json:"nodes"`
}

type apiUpgradeNode struct {
	Node    string `json:"node"`
	Answers bool   `json:"answers"`
	Version string `json:"version"`     // "" if it has never told
	Has     uint32 `json:"level_has"`   // of its version; 0: not known
	Allows  uint32 `json:"level_known"` // the highest that it may rise to; 0: not known
	Manual  bool   `json:"manual"`      // cluster.finalize
	Level   uint32 `json:"level"`       // the lowest of its shards
}

// serveUpgrade serves GET /api/v1/upgrade.
func (h *handler) serveUpgrade(w http.ResponseWriter, _ *http.Request) {
	st := h.src.Status()
	h.reply(w, http.StatusOK, newAPIUpgrade(st.Members))
}

func newAPIUpgrade(members []status.Member) *apiUpgrade {
	u := &apiUpgrade{Holds: []string{}, Nodes: []apiUpgradeNode{}}
	for i := range members {
		m := &members[i]
		n := apiUpgradeNode{Node: m.Node, Answers: m.Answers}
		if f := m.Figures; f != nil {
			n.Version, n.Allows, n.Manual, n.Level = f.Version, f.Knows, f.Manual, f.Level
			n.Has = max(f.Has, f.Knows)
			u.Newest, u.Highest = max(u.Newest, n.Has), max(u.Highest, f.Highest, f.Level)
			if u.Level == 0 || f.Level > 0 && f.Level < u.Level {
				u.Level = f.Level
			}
		}
		u.Nodes = append(u.Nodes, n)
	}
	u.WayBack = u.Highest > 0 && u.Highest < u.Newest
	if u.Level == u.Newest {
		return u
	}
	for _, n := range u.Nodes {
		switch {
		case n.Has == 0:
			u.Holds = append(u.Holds, fmt.Sprintf("node %s has not told its version", n.Node))
		case !n.Answers:
			u.Holds = append(u.Holds, fmt.Sprintf("node %s does not answer", n.Node))
		case n.Has < u.Newest:
			u.Holds = append(u.Holds, fmt.Sprintf("version %s of node %s has level %d", n.Version, n.Node, n.Has))
		case n.Allows < n.Has:
			u.Holds = append(u.Holds, fmt.Sprintf("cluster.max_level of node %s is %d", n.Node, n.Allows))
		}
		if n.Manual {
			u.Holds = append(u.Holds, fmt.Sprintf("cluster.finalize of node %s is manual", n.Node))
		}
	}
	return u
}

// serveFinalize serves POST /api/v1/upgrade/finalize.
func (h *handler) serveFinalize(w http.ResponseWriter, r *http.Request) {
	if _, ok := accept(h, w, r, func() (b struct{}, err error) {
		return b, readBody(w, r, maxCommand, &b)
	}); !ok {
		return
	}
	args := map[string]any{}
	tell, ok := h.begin(w, r, VerbFinalize, "cluster", args)
	if !ok {
		return
	}
	asker := h.asker(r)
	out, err := h.mover.Finalize(r.Context(), &asker)
	if err == nil {
		args["whole"] = out.Whole
	}
	h.conclude(w, r, tell, out, err)
}
