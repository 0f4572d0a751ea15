// Command tiny stands for a server where a test needs a build that takes a second.
package main

func main() {}
