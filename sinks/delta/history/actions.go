package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
)

// Info is what a commit says of itself. Texts and numbers that another writer has left out are zero.
type Info struct {
	Timestamp         int64 // Unix milliseconds, by the writer's clock
	InCommitTimestamp int64 // Unix milliseconds, 0 if the table has none
	Operation         string
	Parameters        map[string]string // values that are no texts are JSON
	Metrics           map[string]string
	Engine, Node, By  string // engineInfo, deckleNode, userName or userId
	TxnID             string
	ReadVersion       int64 // -1 if it is not said
	BlindAppend       bool
}

// Vector is the descriptor of a file's deletion vector.
type Vector = deletionvector.Descriptor

// Add is an add action.
type Add struct{ deltalog.Add }

// Remove is a remove action.
type Remove struct{ deltalog.Remove }

// ID is what tells a logical file from every other one: path and deletion vector.
func (a *Add) ID() string    { return deletionvector.FileID(a.Path, a.Vector) }
func (r *Remove) ID() string { return deletionvector.FileID(r.Path, r.Vector) }

// Commit is one version as its file says it.
type Commit struct {
	Version  int64
	Info     *Info // nil if there is none
	Protocol *deltalog.Protocol
	Metadata *deltalog.Metadata
	Txns     []deltalog.Txn
	Adds     []Add
	Removes  []Remove
	Changes  []string          // paths of change data files (cdc)
	Domains  map[string]string // domainMetadata: configuration by domain, "" for one that is removed
	Unknown  []string          // names of actions that are not known here, ascending
	Written  time.Time         // when the object was written, by the store's clock
}

var (
	errNoPath    = errors.New("action without path")
	errDuplicate = errors.New("action given twice")
)

// ParseCommit reads a commit file. It returns a *deltalog.CorruptionError for what is no commit.
func ParseCommit(key string, version int64, data []byte) (*Commit, error) {
	c := &Commit{Version: version}
	seen := map[string]bool{}
	once := func(kind, id string) error {
		if id == "" {
			return errNoPath
		}
		if seen[kind+id] {
			return fmt.Errorf("%w: %s %s", errDuplicate, kind, id)
		}
		seen[kind+id] = true
		return nil
	}
	for n, line := range bytes.Split(data, []byte{'\n'}) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if err := c.line(line, once); err != nil {
			return nil, &deltalog.CorruptionError{Key: key, Line: n + 1, Err: err}
		}
	}
	slices.Sort(c.Unknown)
	c.Unknown = slices.Compact(c.Unknown)
	return c, nil
}

func (c *Commit) line(line []byte, once func(kind, id string) error) error {
	var actions map[string]json.RawMessage
	if err := json.Unmarshal(line, &actions); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(actions)) {
		raw := actions[name]
		if string(raw) == "null" {
			continue
		}
		var err error
		switch name {
		case "add":
			var a Add
			if err = json.Unmarshal(raw, &a); err == nil {
				if err = once("add ", a.Path); err == nil {
					c.Adds = append(c.Adds, a)
				}
			}
		case "remove":
			var r Remove
			if err = json.Unmarshal(raw, &r); err == nil {
				if err = once("remove ", r.ID()); err == nil {
					c.Removes = append(c.Removes, r)
				}
			}
		case "txn":
			var t deltalog.Txn
			if err = json.Unmarshal(raw, &t); err == nil {
				if err = once("txn ", t.AppID); err == nil {
					c.Txns = append(c.Txns, t)
				}
			}
		case "metaData":
			if err = once("metaData ", "-"); err == nil {
				err = json.Unmarshal(raw, &c.Metadata)
			}
		case "protocol":
			if err = once("protocol ", "-"); err == nil {
				err = json.Unmarshal(raw, &c.Protocol)
			}
		case "cdc":
			var d struct{ Path string }
			if err = json.Unmarshal(raw, &d); err == nil {
				c.Changes = append(c.Changes, d.Path)
			}
		case "domainMetadata":
			err = c.domain(raw)
		case "commitInfo":
			c.Info = parseInfo(raw)
		default:
			c.Unknown = append(c.Unknown, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Commit) domain(raw json.RawMessage) error {
	var d struct {
		Domain, Configuration string
		Removed               bool
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	if d.Removed {
		d.Configuration = ""
	}
	if c.Domains == nil {
		c.Domains = map[string]string{}
	}
	c.Domains[d.Domain] = d.Configuration
	return nil
}

// parseInfo takes what it understands: other writers put values of any type into commitInfo.
func parseInfo(raw json.RawMessage) *Info {
	info := &Info{ReadVersion: -1}
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return info
	}
	number := func(name string, to *int64) {
		var n int64
		if all[name] != nil && json.Unmarshal(all[name], &n) == nil && string(all[name]) != "null" {
			*to = n
		}
	}
	number("timestamp", &info.Timestamp)
	number("inCommitTimestamp", &info.InCommitTimestamp)
	number("readVersion", &info.ReadVersion)
	info.Operation, info.Engine, info.TxnID = plain(all["operation"]), plain(all["engineInfo"]), plain(all["txnId"])
	info.Node, info.By = plain(all["deckleNode"]), plain(all["userName"])
	if info.By == "" {
		info.By = plain(all["userId"])
	}
	info.BlindAppend = plain(all["isBlindAppend"]) == "true"
	info.Parameters, info.Metrics = texts(all["operationParameters"]), texts(all["operationMetrics"])
	return info
}

// plain is a JSON text as it is, and any other value as JSON; "" for none.
func plain(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func texts(raw json.RawMessage) map[string]string {
	var all map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &all) != nil || len(all) == 0 {
		return nil
	}
	out := make(map[string]string, len(all))
	for k, v := range all {
		out[k] = plain(v)
	}
	return out
}

// Key is deltalog.Key.
func Key(logPath string) (string, error) { return deltalog.Key(logPath) }
