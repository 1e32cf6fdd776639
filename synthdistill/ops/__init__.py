"""What an operator needs beside the stages."""
