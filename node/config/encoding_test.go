package config

import (
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

const leastConfig = `node: a
data_dir: /data
cluster: {nodes: [{name: a, address: "10.0.0.1:7946"}]}
kafka: {brokers: ["k1:9092"]}
clickhouse: {address: "c:9000", password: {file: /run/secret}}
`

// utf16Of is the text as editors on Windows may save it.
func utf16Of(text string, order binary.AppendByteOrder, mark bool) []byte {
	var b []byte
	if mark {
		b = order.AppendUint16(b, 0xfeff)
	}
	for _, u := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, u)
	}
	return b
}

// Field report F28: a configuration saved by Notepad begins with a mark that nobody sees, and the first key was
// "unknown". UTF-8 with a mark is UTF-8; another encoding is refused by its name.
func TestByteOrderMarks(t *testing.T) {
	var utf32 []byte
	for _, r := range "\ufeff" + leastConfig {
		utf32 = binary.LittleEndian.AppendUint32(utf32, uint32(r))
	}
	text16 := func(order binary.AppendByteOrder, mark bool) string {
		return string(utf16Of(leastConfig, order, mark))
	}
	for name, tc := range map[string]struct{ text, want string }{
		"UTF-8":                        {"\ufeff" + leastConfig, ""},
		"UTF-8 with CRLF":              {"\ufeff" + strings.ReplaceAll(leastConfig, "\n", "\r\n"), ""},
		"UTF-16LE":                     {text16(binary.LittleEndian, true), "UTF-16 (little-endian)"},
		"UTF-16BE":                     {text16(binary.BigEndian, true), "UTF-16 (big-endian)"},
		"UTF-16LE without a mark":      {text16(binary.LittleEndian, false), "UTF-16 (little-endian), without"},
		"UTF-16BE without a mark":      {text16(binary.BigEndian, false), "UTF-16 (big-endian), without"},
		"UTF-32LE":                     {string(utf32), "UTF-32 (little-endian)"},
		"a mark and nothing else":      {"\ufeff", "is empty"},
		"two marks":                    {"\ufeff\ufeff" + leastConfig, "node"},
		"a misspelt key has its place": {"\ufeffnod: a\n" + leastConfig, "deckle.yaml:1:1: nod: "},
	} {
		_, err := Load("deckle.yaml", testEnv, testFiles(tc.text))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if err != nil && !utf8.ValidString(err.Error()) {
			t.Errorf("%s: the error is no text: %q", name, err)
		}
	}
}

// A secret's file may have a mark, too, which is no part of the secret.
func TestByteOrderMarkOfASecret(t *testing.T) {
	read := func(content string) func(string) ([]byte, error) {
		files := testFiles(leastConfig)
		return func(path string) ([]byte, error) {
			if path == "/run/secret" {
				return []byte(content), nil
			}
			return files(path)
		}
	}
	cfg, err := Load("deckle.yaml", testEnv, read("\ufeffpass\r\n"))
	if err != nil || cfg.ClickHouse.Password.Value() != "pass" {
		t.Errorf("%v", err)
	}
	_, err = Load("deckle.yaml", testEnv, read(string(utf16Of("pass", binary.LittleEndian, true))))
	if err == nil || !strings.Contains(err.Error(), "UTF-16 (little-endian)") {
		t.Errorf("%v", err)
	}
}

// The name of a topic is what Kafka takes, and so is the name of the dead letter topic that follows from it: it was
// first refused when the first letter was written.
func TestTopicNames(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct{ topic, dlq, want string }{
		{"web_clicks", "", ""},
		{long(245), "", ""},
		{long(246), "", ".dlq is too long: with .dlq it has 250 bytes, and Kafka takes 249"},
		{long(249), "letters", ""},
		{long(250), "letters", "kafka.topic: " + long(250) + " is too long"},
		{"t", long(250), "kafka.dlq: " + long(250) + " is too long"},
		{"a,b", "", `kafka.topic: "a,b" is not the name of one topic: a cluster reads one topic. For another`},
		{"a, b", "", "is not the name of one topic"},
		{"web_.*", "", "is not the name of one topic"},
		{"klicks/ü", "", "is no name of a topic"},
		{"..", "", "is no name of a topic"},
		{".", "", "is no name of a topic"},
		{"t", "a b", `kafka.dlq: "a b" is not the name of one topic`},
		{"t", "t", "must not be the source topic"},
	} {
		text := strings.Replace(leastConfig, `["k1:9092"]`, `["k1:9092"], topic: "`+tc.topic+`", dlq: "`+tc.dlq+`"`, 1)
		if tc.dlq == "" {
			text = strings.Replace(text, `, dlq: ""`, "", 1)
		}
		_, err := Load("deckle.yaml", testEnv, testFiles(text))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%q, %q: %v, want %q", tc.topic, tc.dlq, err, tc.want)
		}
		if err != nil && strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%q, %q: more than one problem: %v", tc.topic, tc.dlq, err)
		}
	}
	for list, want := range map[string]string{
		`topic: [a, b]`:              "kafka.topic: must be one topic, not a list: a cluster reads one",
		`brokers: ["a:9092,b:9092"]`: `kafka.brokers[0]: "a:9092,b:9092" holds a comma`,
	} {
		text := strings.Replace(leastConfig, `{brokers: ["k1:9092"]}`, `{`+list+`}`, 1)
		if _, err := Load("deckle.yaml", testEnv, testFiles(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", list, err, want)
		}
	}
}
