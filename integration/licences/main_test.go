package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	mitText = "Permission is hereby granted, free of charge, to any person obtaining a\ncopy of this software … " +
		"The above copyright notice and this permission notice shall be included in all copies"
	bsdText = "Redistribution and use in source and binary forms, with or without\nmodification, are permitted " +
		"provided …"
)

// Each kind is told by its text, however its lines are broken; what is not allowed, and what nobody knows, is refused.
func TestKinds(t *testing.T) {
	for _, row := range []struct{ text, want, err string }{
		{mitText, "MIT", ""},
		{strings.ReplaceAll(mitText, " ", "\r\n  "), "MIT", ""},
		{"MIT No Attribution\nPermission is hereby granted, free of charge, to any person obtaining a copy of this " +
			"software", "MIT-0", ""},
		{bsdText, "BSD-2-Clause", ""},
		{bsdText + " Neither the name of X nor", "BSD-3-Clause", ""},
		{bsdText + " Neither the name of X nor\n---\nApache License\nVersion 2.0, January 2004",
			"Apache-2.0 BSD-3-Clause", ""},
		{"Mozilla Public License, version 2.0\n\n1. Definitions … the GNU General Public License, Version 2.0, the " +
			"GNU Lesser General Public License, Version 2.1", "MPL-2.0", ""},
		{"GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007", "", "GPL is not allowed"},
		{"you can redistribute it and/or modify it under the terms of the GNU Lesser", "", "GPL is not allowed"},
		{mitText + "\n\nGNU AFFERO GENERAL PUBLIC LICENSE\n Version 3, 19 November 2007", "", "AGPL is not allowed"},
		{"Business Source License 1.1", "", "BUSL is not allowed"},
		{bsdText + " “Commons Clause” License Condition v1.0", "", "Commons Clause is not allowed"},
		{"", "", "not known"},
		{"All rights reserved.", "", "not known"},
	} {
		got, err := kindsOf(row.text)
		if strings.Join(got, " ") != row.want || (err == nil) != (row.err == "") ||
			err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%q: %q, %v; want %q, %q", row.text, got, err, row.want, row.err)
		}
	}
}

// Code of others inside a module has its licence beside it: the folders above a package count, and no others.
func TestLook(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"LICENSE": mitText + " \r\n", "a/LICENSE.txt": bsdText, "a/b/code.go": "", "c/COPYING": "GPL", "NOTICE": "of X",
		"licence.go": "package a", "LICENSES/x": "a folder", "PATENTS": "a grant",
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := &module{path: "x.example/m", version: "v1", files: map[string]string{}}
	if err := m.look(root, filepath.Join(root, "a", "b")); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(sortedKeys(m.files), " "), "LICENSE NOTICE PATENTS a/LICENSE.txt"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if m.files["LICENSE"] != mitText {
		t.Errorf("%q", m.files["LICENSE"])
	}
	if kinds, err := m.kinds(); err != nil || strings.Join(kinds, " ") != "BSD-2-Clause MIT" {
		t.Errorf("%q, %v", kinds, err)
	}
	if err := m.look(filepath.Join(root, "c"), filepath.Join(root, "a")); err == nil {
		t.Error("a package outside of its module")
	}
}

// A text stands once, however many modules have it, and everything that is wrong is said.
func TestNotice(t *testing.T) {
	modules := map[string]*module{
		"b": {path: "b", version: "v2", files: map[string]string{"LICENSE": mitText}},
		"a": {path: "a", version: "v1", files: map[string]string{"LICENSE": mitText, "NOTICE": "of A"}},
	}
	text, err := notice(modules)
	if err != nil || strings.Count(string(text), mitText) != 1 || strings.Count(string(text), "of A") != 1 ||
		!strings.Contains(string(text), "\na v1: MIT\nb v2: MIT\n") ||
		!strings.Contains(string(text), "-\na/LICENSE\nb/LICENSE\n-") {
		t.Errorf("%v\n%s", err, text)
	}
	modules["c"] = &module{path: "c", version: "v3", files: map[string]string{"NOTICE": "of C"}}
	modules["d"] = &module{path: "d", version: "v4", files: map[string]string{"LICENSE": "mine"}}
	if _, err := notice(modules); err == nil || !strings.Contains(err.Error(), "c v3: it has no licence\n") ||
		!strings.Contains(err.Error(), "d v4: LICENSE: its licence is not known") {
		t.Errorf("%v", err)
	}
}

func TestFirstDifference(t *testing.T) {
	for _, row := range [][3]string{
		{"a\nb", "a\nb", ""}, {"a\nb", "a\nc", `line 2 is "b", and should be "c"`}, {"a", "a\nb", "line 2 is missing"},
		{"a\nb", "a", "line 2 is too much"}, {"", "a", "line 1"},
	} {
		if got := firstDifference(row[0], row[1]); !strings.HasPrefix(got, row[2]) || (got == "") != (row[2] == "") {
			t.Errorf("%q, %q: %q, want %q", row[0], row[1], got, row[2])
		}
	}
}
