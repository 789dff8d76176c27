// SPDX-License-Identifier: Apache-2.0

// Empty: with it in the package the compiler accepts functions without a body, see fork.go.
