"""What of a pixel is clustered: its bands, or its perceptual colour, or these with the texture around it."""
