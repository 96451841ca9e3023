package node

import (
	"fmt"
	"strings"
	"sync/atomic"

	"deckle/node/condition"
	"deckle/node/config"
)

// reloader has the configuration that counts at the moment: the one of the start, with what has been taken over since.
type reloader struct {
	deps *Deps
	list *condition.Registry
	live atomic.Pointer[config.Config]

	told string // what needs a restart, as it was last logged
}

func newReloader(cfg *config.Config, deps *Deps, list *condition.Registry) *reloader {
	r := &reloader{deps: deps, list: list}
	r.live.Store(cfg)
	return r
}

// configuration is what the conditions of a reloader concern.
const configuration = "configuration"

// look reads the configuration again, takes over what a running node can, and says what it cannot. One that is not good
// changes nothing. Only one goroutine may call it.
func (r *reloader) look() {
	if r.deps.Reload == nil {
		return
	}
	cfg, err := r.deps.Reload()
	if err != nil {
		r.list.Keep(condition.FileUnusable, configuration,
			fmt.Sprintf("as it is now it is not good, and the node goes on with what it had: %v", err))
		return
	}
	r.list.Keep(condition.FileUnusable, configuration, "")
	was := r.live.Load()
	taken := was.Take(cfg)
	for _, c := range config.Diff(was.Values(), taken.Values()) {
		r.deps.Logger.Info("the configuration has changed", "key", c.Key, "from", c.From, "to", c.To)
	}
	r.live.Store(taken)
	if r.deps.LogLevel != nil {
		r.deps.LogLevel.Set(taken.Log.Least())
	}
	var left []string
	for _, c := range config.Diff(taken.Values(), cfg.Values()) {
		left = append(left, fmt.Sprintf("%s is %s in the file, the node runs with %s", c.Key, orUnset(c.To),
			orUnset(c.From)))
	}
	text := strings.Join(left, "; ")
	if text != r.told && text != "" {
		r.deps.Logger.Warn("the configuration has changed where a running node cannot follow", "what", text)
	}
	r.told = text
	r.list.Keep(condition.RestartNeeded, configuration, text)
}

func orUnset(text string) string {
	if text == "" {
		return "not set"
	}
	return text
}
