package sim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// What is personal in the records of Faults.Private. The cluster must have PrivateRules, and PrivateKey to hash with.
const (
	// PrivateField is an object beside the fields of the schema.
	PrivateField = "sim_reader"
	// PrivateKey is the HMAC key.
	PrivateKey = "a key of the simulator, of 32 bytes and more"
	// Planted stands in every value that a rule takes away or changes: nothing that the cluster keeps or writes may
	// have it.
	Planted = "pl4nt3d"
)

// PrivateRule is a rule about personal data: the field, what is done to it, and what is left of a time.
type PrivateRule struct{ Field, Action, To string }

// PrivateRules are the rules that the truth of Faults.Private rests on.
func PrivateRules() []PrivateRule {
	return []PrivateRule{{PrivateField + ".email", "hash", ""}, {PrivateField + ".note", "drop", ""},
		{PrivateField + ".ip", "truncate_ip", ""}, {PrivateField + ".seen", "generalise_time", "day"},
		{"metadata." + PrivateField, "drop", ""}}
}

// protected is what the rules leave of the fields of a record, in which every value is read.
func protected(m map[string]any) {
	if metadata, ok := m["metadata"].(map[string]any); ok {
		delete(metadata, PrivateField)
	}
	reader, ok := m[PrivateField].(map[string]any)
	if !ok {
		return
	}
	delete(reader, "note")
	if email, ok := reader["email"].(string); ok {
		mac := hmac.New(sha256.New, []byte(PrivateKey))
		fmt.Fprintf(mac, "%s.email\x00%s", PrivateField, email)
		reader["email"] = hex.EncodeToString(mac.Sum(nil))[:32]
	}
	if ip, ok := reader["ip"].(string); ok {
		reader["ip"] = ip[:strings.LastIndexByte(ip, '.')] + ".0"
	}
	if seen, ok := reader["seen"].(string); ok {
		reader["seen"] = seen[:len("2026-11-29")] + "T00:00:00Z"
	}
}
