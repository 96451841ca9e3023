package config

import (
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Problem is one mistake in a configuration.
type Problem struct {
	Key          string // e.g. "cluster.nodes[1].address"; "" for the whole file
	Line, Column int    // in the file, from 1; 0 for a Config built in Go
	Set          string // the key of the assignment of --set that is wrong; "" for the file
	Text         string // what is wrong and what to do
}

// checker collects problems.
type checker struct{ problems []Problem }

func (k *checker) add(key, format string, args ...any) {
	k.problems = append(k.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (k *checker) need(key, value, hint string) bool {
	if value == "" {
		k.add(key, "is missing: %s", hint)
	}
	return value != ""
}

func (k *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.add(key, "%q is not known; use one of %s", value, strings.Join(allowed, ", "))
	}
}

// enums checks every text below v, and every text of a list, that has one of the values of its enum tag.
func (k *checker) enums(v reflect.Value, key string) {
	for i := range v.NumField() {
		field, x := v.Type().Field(i), v.Field(i)
		if !field.IsExported() {
			continue
		}
		full := strings.TrimPrefix(key+"."+field.Tag.Get("yaml"), ".")
		if x.Kind() == reflect.Pointer {
			x = x.Elem() // the zero Value for nil
		}
		allowed := strings.Split(field.Tag.Get("enum"), ",")
		switch {
		case x.Kind() == reflect.Struct:
			k.enums(x, full)
		case x.Kind() == reflect.Slice:
			for j := range x.Len() {
				at := fmt.Sprintf("%s[%d]", full, j)
				switch e := x.Index(j); {
				case e.Kind() == reflect.Struct:
					k.enums(e, at)
				case allowed[0] != "":
					k.oneOf(at, e.String(), allowed...)
				}
			}
		case allowed[0] != "":
			k.oneOf(full, x.String(), allowed...)
		}
	}
}

// address checks host:port; port 0 is for listening on any free port.
func (k *checker) address(key, value string, listen bool) {
	host, port, err := net.SplitHostPort(value)
	if strings.Contains(value, ",") {
		k.add(key, "%q holds a comma: give one host:port, and several as a list where one is asked for", value)
		return
	}
	if err != nil || !legalHost(host) {
		k.add(key, "%q is not host:port", value)
		return
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 && !listen {
		k.add(key, "%q has no port from 1 to 65535", value)
	}
	if host == "" && !listen {
		k.add(key, "%q has no host: others could not dial it", value)
	}
}

// maxTopic is the most bytes of a topic's name that Kafka takes.
const maxTopic = 249

const oneTopic = "a cluster reads one topic. For another topic run another cluster, with its own data_dir and tables " +
	"(cluster.pipeline, delta, clickhouse.database)"

// topic checks a topic's name as Kafka does, and says whether it is good.
func (k *checker) topic(key, value string) bool {
	n := len(k.problems)
	legal := func(r rune) bool {
		return r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	switch {
	case value == "":
		k.add(key, "is empty: give the topic's name")
	case strings.ContainsAny(value, ", ;|*"):
		k.add(key, "%q is not the name of one topic: %s", value, oneTopic)
	case value == "." || value == ".." || strings.ContainsFunc(value, func(r rune) bool { return !legal(r) }):
		k.add(key, "%q is no name of a topic: Kafka takes letters, digits, '-', '_' and '.', but not . or .. alone",
			value)
	case len(value) > maxTopic:
		k.add(key, "%s is too long: it has %d bytes, and Kafka takes %d", value, len(value), maxTopic)
	}
	return len(k.problems) == n
}

func (k *checker) between(key string, value, least, most time.Duration) {
	if value < least || value > most {
		k.add(key, "%s is out of range: use %s to %s", short(value), short(least), short(most))
	}
}

func (k *checker) inBytes(key string, value, least, most int64) {
	if value < least || value > most {
		k.add(key, "%d is out of range: use %d to %d bytes", value, least, most)
	}
}

func (k *checker) atLeast(key string, value, least int64) {
	if value < least {
		k.add(key, "%d is too small: use at least %d", value, least)
	}
}

// short formats a duration without units that are zero: 30m, not 30m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// Loopback says whether an address (host:port, or a host) is this machine's own by its text: localhost, or an IP
// address of the loopback network. Other names are not resolved.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
