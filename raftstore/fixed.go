package raftstore

import (
	"fmt"
	"slices"
	"strings"
)

// Setting is a value that is fixed when a cluster is created, and is the same on all of its nodes.
type Setting struct {
	Key   string // of the configuration, such as kafka.topic
	Value string // as a person reads it
}

// Differ names the settings that two have and that are not the same, with who has what; "" if there is none. What only
// one of them has is not compared: the other may be of another version.
func Differ(here, there []Setting, whose string) string {
	var all []string
	for _, s := range here {
		i := slices.IndexFunc(there, func(o Setting) bool { return o.Key == s.Key })
		if i >= 0 && there[i].Value != s.Value {
			all = append(all, fmt.Sprintf("%s is %.200s here, and %.200s %s", s.Key, s.Value, there[i].Value, whose))
		}
	}
	return strings.Join(all, "; ")
}

// differs returns an error that wraps ErrConfig if one has other settings than somebody else.
func differs(here, there []Setting, whose string) error {
	if text := Differ(here, there, whose); text != "" {
		return fmt.Errorf("%w: %s: these are fixed when a cluster is created. Set them back, or start a new cluster "+
			"in an empty folder", ErrConfig, text)
	}
	return nil
}
