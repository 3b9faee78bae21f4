"""The words of the doctor, as frozen typed values. No behaviour beyond what a value says of itself."""
